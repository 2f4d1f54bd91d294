// The messages of interop.proto, written by hand so that no generator is needed: the tags are what protobuf goes by.
package main

import "github.com/golang/protobuf/proto"

type empty struct{}

type payload struct {
	Body []byte `protobuf:"bytes,2,opt,name=body"`
}

type echoStatus struct {
	Code    int32  `protobuf:"varint,1,opt,name=code"`
	Message string `protobuf:"bytes,2,opt,name=message,proto3"`
}

type simpleRequest struct {
	ResponseSize   int32       `protobuf:"varint,2,opt,name=response_size"`
	Payload        *payload    `protobuf:"bytes,3,opt,name=payload"`
	ResponseStatus *echoStatus `protobuf:"bytes,7,opt,name=response_status"`
}

type simpleResponse struct {
	Payload *payload `protobuf:"bytes,1,opt,name=payload"`
}

type inputRequest struct {
	Payload *payload `protobuf:"bytes,1,opt,name=payload"`
}

type inputResponse struct {
	AggregatedPayloadSize int32 `protobuf:"varint,1,opt,name=aggregated_payload_size"`
}

type responseParameters struct {
	Size       int32 `protobuf:"varint,1,opt,name=size"`
	IntervalUs int32 `protobuf:"varint,2,opt,name=interval_us"`
}

type outputRequest struct {
	ResponseParameters []*responseParameters `protobuf:"bytes,2,rep,name=response_parameters"`
	Payload            *payload              `protobuf:"bytes,3,opt,name=payload"`
	ResponseStatus     *echoStatus           `protobuf:"bytes,7,opt,name=response_status"`
}

type outputResponse struct {
	Payload *payload `protobuf:"bytes,1,opt,name=payload"`
}

func (m *empty) Reset()                      { *m = empty{} }
func (m *empty) String() string              { return proto.CompactTextString(m) }
func (*empty) ProtoMessage()                 {}
func (m *payload) Reset()                    { *m = payload{} }
func (m *payload) String() string            { return proto.CompactTextString(m) }
func (*payload) ProtoMessage()               {}
func (m *echoStatus) Reset()                 { *m = echoStatus{} }
func (m *echoStatus) String() string         { return proto.CompactTextString(m) }
func (*echoStatus) ProtoMessage()            {}
func (m *simpleRequest) Reset()              { *m = simpleRequest{} }
func (m *simpleRequest) String() string      { return proto.CompactTextString(m) }
func (*simpleRequest) ProtoMessage()         {}
func (m *simpleResponse) Reset()             { *m = simpleResponse{} }
func (m *simpleResponse) String() string     { return proto.CompactTextString(m) }
func (*simpleResponse) ProtoMessage()        {}
func (m *inputRequest) Reset()               { *m = inputRequest{} }
func (m *inputRequest) String() string       { return proto.CompactTextString(m) }
func (*inputRequest) ProtoMessage()          {}
func (m *inputResponse) Reset()              { *m = inputResponse{} }
func (m *inputResponse) String() string      { return proto.CompactTextString(m) }
func (*inputResponse) ProtoMessage()         {}
func (m *responseParameters) Reset()         { *m = responseParameters{} }
func (m *responseParameters) String() string { return proto.CompactTextString(m) }
func (*responseParameters) ProtoMessage()    {}
func (m *outputRequest) Reset()              { *m = outputRequest{} }
func (m *outputRequest) String() string      { return proto.CompactTextString(m) }
func (*outputRequest) ProtoMessage()         {}
func (m *outputResponse) Reset()             { *m = outputResponse{} }
func (m *outputResponse) String() string     { return proto.CompactTextString(m) }
func (*outputResponse) ProtoMessage()        {}
