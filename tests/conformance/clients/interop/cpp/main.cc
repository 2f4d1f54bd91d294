// Runs the interoperability cases with gRPC for C++: `interop ADDRESS`. Prints, as JSON, what was wrong with each, ""
// for nothing.
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "interop.grpc.pb.h"

namespace {

using namespace grpc::testing;
using grpc::ClientContext;
using grpc::Status;
using grpc::StatusCode;
using Duplex = grpc::ClientReaderWriter<StreamingOutputCallRequest, StreamingOutputCallResponse>;

const std::vector<int> kRequestSizes = {27182, 8, 1828, 45904};
const std::vector<int> kResponseSizes = {31415, 9, 2653, 58979};
const std::string kOddText = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const std::string kInitial = "x-grpc-test-echo-initial", kTrailing = "x-grpc-test-echo-trailing-bin";

std::unique_ptr<TestService::Stub> stub;
std::shared_ptr<grpc::Channel> channel;

struct Call : ClientContext {
  explicit Call(std::chrono::milliseconds patience = std::chrono::seconds(20)) {
    set_deadline(std::chrono::system_clock::now() + patience);
  }
};

void Check(bool right, const std::string& text) {
  if (!right) throw std::runtime_error(text);
}

void CheckStatus(const Status& status, StatusCode code, const std::string* message = nullptr) {
  Check(status.error_code() == code && (!message || status.error_message() == *message),
        "status " + std::to_string(status.error_code()) + ", " + status.error_message());
}

StreamingOutputCallRequest Output(int request_size, const std::vector<int>& sizes) {
  StreamingOutputCallRequest request;
  request.mutable_payload()->set_body(std::string(request_size, '\0'));
  for (int size : sizes) request.add_response_parameters()->set_size(size);
  return request;
}

template <class Reader>
void Receive(Reader& call, int size) {
  StreamingOutputCallResponse response;
  Check(call.Read(&response), "no answer");
  Check(int(response.payload().body().size()) == size, "an answer of another size");
}

template <class Reader>
void End(Reader& call) {
  StreamingOutputCallResponse response;
  Check(!call.Read(&response), "more than there is");
  CheckStatus(call.Finish(), StatusCode::OK);
}

void EmptyUnary() {
  Call call;
  Empty response;
  CheckStatus(stub->EmptyCall(&call, Empty(), &response), StatusCode::OK);
}

void Large(ClientContext& call) {
  SimpleRequest request;
  request.set_response_size(314159);
  request.mutable_payload()->set_body(std::string(271828, '\0'));
  SimpleResponse response;
  CheckStatus(stub->UnaryCall(&call, request, &response), StatusCode::OK);
  Check(response.payload().body() == std::string(314159, '\0'), "another answer");
}

void LargeUnary() {
  Call call;
  Large(call);
}

void ClientCompressedUnary() {
  Call call;
  call.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  Large(call);
}

void Inputs(ClientContext& call) {
  StreamingInputCallResponse response;
  auto writer = stub->StreamingInputCall(&call, &response);
  int sum = 0;
  for (int size : kRequestSizes) {
    StreamingInputCallRequest request;
    request.mutable_payload()->set_body(std::string(size, '\0'));
    Check(writer->Write(request), "not taken");
    sum += size;
  }
  writer->WritesDone();
  CheckStatus(writer->Finish(), StatusCode::OK);
  Check(response.aggregated_payload_size() == sum, "another sum");
}

void ClientStreaming() {
  Call call;
  Inputs(call);
}

void ClientCompressedStreaming() {
  Call call;
  call.set_compression_algorithm(GRPC_COMPRESS_DEFLATE);
  Inputs(call);
}

void ServerStreaming() {
  Call call;
  auto reader = stub->StreamingOutputCall(&call, Output(0, kResponseSizes));
  for (int size : kResponseSizes) Receive(*reader, size);
  End(*reader);
}

void PingPong() {
  Call call;
  auto stream = stub->FullDuplexCall(&call);
  for (size_t at = 0; at < kResponseSizes.size(); at++) {
    Check(stream->Write(Output(kRequestSizes[at], {kResponseSizes[at]})), "not taken");
    Receive(*stream, kResponseSizes[at]);
  }
  stream->WritesDone();
  End(*stream);
}

void EmptyStream() {
  Call call;
  auto stream = stub->FullDuplexCall(&call);
  stream->WritesDone();
  End(*stream);
}

void CancelAfterBegin() {
  Call call;
  StreamingInputCallResponse response;
  auto writer = stub->StreamingInputCall(&call, &response);
  call.TryCancel();
  CheckStatus(writer->Finish(), StatusCode::CANCELLED);
}

void CancelAfterFirstResponse() {
  Call call;
  auto stream = stub->FullDuplexCall(&call);
  Check(stream->Write(Output(27182, {31415})), "not taken");
  Receive(*stream, 31415);
  call.TryCancel();
  CheckStatus(stream->Finish(), StatusCode::CANCELLED);
}

void TimeoutOnSleepingServer() {
  Call call(std::chrono::milliseconds(50));
  auto request = Output(27182, {31415});
  request.mutable_response_parameters(0)->set_interval_us(10'000'000);
  auto reader = stub->StreamingOutputCall(&call, request);
  StreamingOutputCallResponse response;
  Check(!reader->Read(&response), "an answer");
  CheckStatus(reader->Finish(), StatusCode::DEADLINE_EXCEEDED);
}

void Echo(const std::string& message, bool streamed) {
  Call call;
  SimpleRequest request;
  request.mutable_response_status()->set_code(2);
  request.mutable_response_status()->set_message(message);
  SimpleResponse response;
  CheckStatus(stub->UnaryCall(&call, request, &response), StatusCode::UNKNOWN, &message);
  if (!streamed) return;
  Call second;
  auto stream = stub->FullDuplexCall(&second);
  StreamingOutputCallRequest output;
  *output.mutable_response_status() = request.response_status();
  stream->Write(output);
  CheckStatus(stream->Finish(), StatusCode::UNKNOWN, &message);
}

void StatusCodeAndMessage() { Echo("test status message", true); }

void SpecialStatusMessage() { Echo(kOddText, false); }

void UnimplementedMethod() {
  Call call;
  Empty response;
  CheckStatus(stub->UnimplementedCall(&call, Empty(), &response), StatusCode::UNIMPLEMENTED);
}

void UnimplementedServiceCall() {
  Call call;
  Empty response;
  auto stranger = UnimplementedService::NewStub(channel);
  CheckStatus(stranger->UnimplementedCall(&call, Empty(), &response), StatusCode::UNIMPLEMENTED);
}

void CheckMetadata(const ClientContext& call) {
  auto initial = call.GetServerInitialMetadata().find(kInitial);
  Check(initial != call.GetServerInitialMetadata().end() && initial->second == "test_initial_metadata_value",
        "no initial metadata");
  auto trailing = call.GetServerTrailingMetadata().find(kTrailing);
  Check(trailing != call.GetServerTrailingMetadata().end() && trailing->second == "\xab\xab\xab",
        "no trailing metadata");
}

void CustomMetadata() {
  Call unary, streamed;
  for (Call* call : {&unary, &streamed}) {
    call->AddMetadata(kInitial, "test_initial_metadata_value");
    call->AddMetadata(kTrailing, "\xab\xab\xab");
  }
  Large(unary);
  CheckMetadata(unary);
  auto stream = stub->FullDuplexCall(&streamed);
  Check(stream->Write(Output(271828, {314159})), "not taken");
  stream->WritesDone();
  Receive(*stream, 314159);
  End(*stream);
  CheckMetadata(streamed);
}

}  // namespace

int main(int, char** arguments) {
  channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  stub = TestService::NewStub(channel);
  const std::map<std::string, std::function<void()>> cases = {
      {"empty_unary", EmptyUnary},
      {"large_unary", LargeUnary},
      {"client_compressed_unary", ClientCompressedUnary},
      {"client_streaming", ClientStreaming},
      {"client_compressed_streaming", ClientCompressedStreaming},
      {"server_streaming", ServerStreaming},
      {"ping_pong", PingPong},
      {"empty_stream", EmptyStream},
      {"cancel_after_begin", CancelAfterBegin},
      {"cancel_after_first_response", CancelAfterFirstResponse},
      {"timeout_on_sleeping_server", TimeoutOnSleepingServer},
      {"status_code_and_message", StatusCodeAndMessage},
      {"special_status_message", SpecialStatusMessage},
      {"unimplemented_method", UnimplementedMethod},
      {"unimplemented_service", UnimplementedServiceCall},
      {"custom_metadata", CustomMetadata},
  };
  std::string separator = "{";
  for (const auto& [name, run] : cases) {
    std::string wrong;
    try {
      run();
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    for (char& each : wrong) {
      if (each < ' ' || each == '"' || each == '\\') each = ' ';
    }
    std::cout << separator << '"' << name << "\": \"" << wrong << '"';
    separator = ", ";
  }
  std::cout << "}" << std::endl;
}
