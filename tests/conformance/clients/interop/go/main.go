// Runs the interoperability cases with grpc-go: `interop ADDRESS`. Prints, as JSON, what was wrong with each, "" for
// nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	service  = "/grpc.testing.TestService/"
	oddText  = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
	patience = 20 * time.Second
)

var (
	requestSizes  = []int{27182, 8, 1828, 45904}
	responseSizes = []int{31415, 9, 2653, 58979}
	duplex        = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	connection    *grpc.ClientConn
)

var cases = map[string]func(ctx context.Context) error{
	"empty_unary":                 func(ctx context.Context) error { return unary(ctx, "EmptyCall", &empty{}, &empty{}) },
	"large_unary":                 func(ctx context.Context) error { return largeUnary(ctx) },
	"client_compressed_unary":     func(ctx context.Context) error { return largeUnary(ctx, grpc.UseCompressor(gzip.Name)) },
	"client_streaming":            func(ctx context.Context) error { return clientStreaming(ctx) },
	"client_compressed_streaming": func(ctx context.Context) error { return clientStreaming(ctx, grpc.UseCompressor(gzip.Name)) },
	"server_streaming":            serverStreaming,
	"ping_pong":                   pingPong,
	"empty_stream":                emptyStream,
	"cancel_after_begin":          cancelAfterBegin,
	"cancel_after_first_response": cancelAfterFirstResponse,
	"timeout_on_sleeping_server":  timeoutOnSleepingServer,
	"status_code_and_message":     statusCodeAndMessage,
	"special_status_message":      specialStatusMessage,
	"unimplemented_method": func(ctx context.Context) error {
		return fails(unary(ctx, "UnimplementedCall", &empty{}, &empty{}), codes.Unimplemented)
	},
	"unimplemented_service": func(ctx context.Context) error {
		path := "/grpc.testing.UnimplementedService/UnimplementedCall"
		return fails(connection.Invoke(ctx, path, &empty{}, &empty{}), codes.Unimplemented)
	},
	"custom_metadata": customMetadata,
}

func unary(ctx context.Context, method string, request, response interface{}, options ...grpc.CallOption) error {
	return connection.Invoke(ctx, service+method, request, response, options...)
}

func fails(err error, code codes.Code, message ...string) error {
	found := status.Convert(err)
	if found.Code() != code || (len(message) > 0 && found.Message() != message[0]) {
		return fmt.Errorf("status %s, %q", found.Code(), found.Message())
	}
	return nil
}

func largeUnary(ctx context.Context, options ...grpc.CallOption) error {
	response := &simpleResponse{}
	request := &simpleRequest{ResponseSize: 314159, Payload: &payload{Body: make([]byte, 271828)}}
	if err := unary(ctx, "UnaryCall", request, response, options...); err != nil {
		return err
	}
	return sized(response.Payload, 314159)
}

func sized(found *payload, size int) error {
	if found == nil || len(found.Body) != size {
		return fmt.Errorf("not %d bytes", size)
	}
	return nil
}

func clientStreaming(ctx context.Context, options ...grpc.CallOption) error {
	call, err := connection.NewStream(ctx, duplex, service+"StreamingInputCall", options...)
	if err != nil {
		return err
	}
	sum := 0
	for _, size := range requestSizes {
		sum += size
		if err := call.SendMsg(&inputRequest{Payload: &payload{Body: make([]byte, size)}}); err != nil {
			return err
		}
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	response := &inputResponse{}
	if err := call.RecvMsg(response); err != nil {
		return err
	}
	if int(response.AggregatedPayloadSize) != sum {
		return fmt.Errorf("%d bytes", response.AggregatedPayloadSize)
	}
	return ended(call)
}

func ended(call grpc.ClientStream) error {
	if err := call.RecvMsg(&outputResponse{}); err != io.EOF {
		return fmt.Errorf("no end: %v", err)
	}
	return nil
}

func output(requestSize int, sizes ...int) *outputRequest {
	request := &outputRequest{Payload: &payload{Body: make([]byte, requestSize)}}
	for _, size := range sizes {
		request.ResponseParameters = append(request.ResponseParameters, &responseParameters{Size: int32(size)})
	}
	return request
}

func received(call grpc.ClientStream, size int) error {
	response := &outputResponse{}
	if err := call.RecvMsg(response); err != nil {
		return err
	}
	return sized(response.Payload, size)
}

func serverStreaming(ctx context.Context) error {
	call, err := connection.NewStream(ctx, duplex, service+"StreamingOutputCall")
	if err != nil {
		return err
	}
	if err := call.SendMsg(output(0, responseSizes...)); err != nil {
		return err
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	for _, size := range responseSizes {
		if err := received(call, size); err != nil {
			return err
		}
	}
	return ended(call)
}

func pingPong(ctx context.Context) error {
	call, err := connection.NewStream(ctx, duplex, service+"FullDuplexCall")
	if err != nil {
		return err
	}
	for at, size := range responseSizes {
		if err := call.SendMsg(output(requestSizes[at], size)); err != nil {
			return err
		}
		if err := received(call, size); err != nil {
			return err
		}
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	return ended(call)
}

func emptyStream(ctx context.Context) error {
	call, err := connection.NewStream(ctx, duplex, service+"FullDuplexCall")
	if err != nil {
		return err
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	return ended(call)
}

func cancelAfterBegin(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	call, err := connection.NewStream(ctx, duplex, service+"StreamingInputCall")
	if err != nil {
		return err
	}
	cancel()
	return fails(call.RecvMsg(&inputResponse{}), codes.Canceled)
}

func cancelAfterFirstResponse(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := connection.NewStream(ctx, duplex, service+"FullDuplexCall")
	if err != nil {
		return err
	}
	if err := call.SendMsg(output(27182, 31415)); err != nil {
		return err
	}
	if err := received(call, 31415); err != nil {
		return err
	}
	cancel()
	return fails(call.RecvMsg(&outputResponse{}), codes.Canceled)
}

func timeoutOnSleepingServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	call, err := connection.NewStream(ctx, duplex, service+"StreamingOutputCall")
	if err != nil {
		return fails(err, codes.DeadlineExceeded)
	}
	request := output(27182, 31415)
	request.ResponseParameters[0].IntervalUs = 10_000_000
	if err := call.SendMsg(request); err != nil && err != io.EOF {
		return err
	}
	return fails(call.RecvMsg(&outputResponse{}), codes.DeadlineExceeded)
}

func statusCodeAndMessage(ctx context.Context) error {
	echo := &echoStatus{Code: 2, Message: "test status message"}
	err := unary(ctx, "UnaryCall", &simpleRequest{ResponseStatus: echo}, &simpleResponse{})
	if err := fails(err, codes.Unknown, echo.Message); err != nil {
		return err
	}
	call, err := connection.NewStream(ctx, duplex, service+"FullDuplexCall")
	if err != nil {
		return err
	}
	if err := call.SendMsg(&outputRequest{ResponseStatus: echo}); err != nil {
		return err
	}
	return fails(call.RecvMsg(&outputResponse{}), codes.Unknown, echo.Message)
}

func specialStatusMessage(ctx context.Context) error {
	request := &simpleRequest{ResponseStatus: &echoStatus{Code: 2, Message: oddText}}
	return fails(unary(ctx, "UnaryCall", request, &simpleResponse{}), codes.Unknown, oddText)
}

func customMetadata(ctx context.Context) error {
	initial, trailing := "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
	ctx = metadata.AppendToOutgoingContext(ctx, initial, "test_initial_metadata_value", trailing, "\xab\xab\xab")
	var header, trailer metadata.MD
	request := &simpleRequest{ResponseSize: 314159, Payload: &payload{Body: make([]byte, 271828)}}
	err := unary(ctx, "UnaryCall", request, &simpleResponse{}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		return err
	}
	call, err := connection.NewStream(ctx, duplex, service+"FullDuplexCall")
	if err != nil {
		return err
	}
	if err := call.SendMsg(output(271828, 314159)); err != nil {
		return err
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	if err := received(call, 314159); err != nil {
		return err
	}
	if err := ended(call); err != nil {
		return err
	}
	streamed, err := call.Header()
	if err != nil {
		return err
	}
	for _, found := range []metadata.MD{header, streamed} {
		if value := found.Get(initial); len(value) != 1 || value[0] != "test_initial_metadata_value" {
			return errors.New("no initial metadata")
		}
	}
	for _, found := range []metadata.MD{trailer, call.Trailer()} {
		if value := found.Get(trailing); len(value) != 1 || value[0] != "\xab\xab\xab" {
			return errors.New("no trailing metadata")
		}
	}
	return nil
}

func main() {
	var err error
	if connection, err = grpc.Dial(os.Args[1], grpc.WithInsecure()); err != nil {
		log.Fatal(err)
	}
	found := map[string]string{}
	for name, run := range cases {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		found[name] = ""
		if err := run(ctx); err != nil {
			found[name] = err.Error()
		}
		cancel()
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
