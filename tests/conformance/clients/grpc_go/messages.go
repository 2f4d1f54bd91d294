// The messages of the calls, written by hand so that no generator is needed: the tags are what protobuf goes by.
package main

import "github.com/golang/protobuf/proto"

type packedFaces struct {
	Pixels    []byte `protobuf:"bytes,1,opt,name=pixels"`
	FaceCount int32  `protobuf:"varint,2,opt,name=face_count"`
}

type classifyFacesRequest struct {
	Packed *packedFaces `protobuf:"bytes,3,opt,name=packed"`
}

type prediction struct {
	Scores []float32 `protobuf:"fixed32,2,rep,packed,name=scores"`
}

type faceResult struct {
	Prediction *prediction `protobuf:"bytes,1,opt,name=prediction"`
}

type classifyFacesResponse struct {
	Results []*faceResult `protobuf:"bytes,1,rep,name=results"`
}

type classifyStreamRequest struct {
	SequenceID int64        `protobuf:"varint,1,opt,name=sequence_id"`
	Faces      *packedFaces `protobuf:"bytes,4,opt,name=faces"`
}

type classifyStreamResponse struct {
	SequenceID  int64         `protobuf:"varint,1,opt,name=sequence_id"`
	Predictions []*prediction `protobuf:"bytes,2,rep,name=predictions"`
}

func (m *packedFaces) Reset()                    { *m = packedFaces{} }
func (m *packedFaces) String() string            { return proto.CompactTextString(m) }
func (*packedFaces) ProtoMessage()               {}
func (m *classifyFacesRequest) Reset()           { *m = classifyFacesRequest{} }
func (m *classifyFacesRequest) String() string   { return proto.CompactTextString(m) }
func (*classifyFacesRequest) ProtoMessage()      {}
func (m *prediction) Reset()                     { *m = prediction{} }
func (m *prediction) String() string             { return proto.CompactTextString(m) }
func (*prediction) ProtoMessage()                {}
func (m *faceResult) Reset()                     { *m = faceResult{} }
func (m *faceResult) String() string             { return proto.CompactTextString(m) }
func (*faceResult) ProtoMessage()                {}
func (m *classifyFacesResponse) Reset()          { *m = classifyFacesResponse{} }
func (m *classifyFacesResponse) String() string  { return proto.CompactTextString(m) }
func (*classifyFacesResponse) ProtoMessage()     {}
func (m *classifyStreamRequest) Reset()          { *m = classifyStreamRequest{} }
func (m *classifyStreamRequest) String() string  { return proto.CompactTextString(m) }
func (*classifyStreamRequest) ProtoMessage()     {}
func (m *classifyStreamResponse) Reset()         { *m = classifyStreamResponse{} }
func (m *classifyStreamResponse) String() string { return proto.CompactTextString(m) }
func (*classifyStreamResponse) ProtoMessage()    {}
