// Calls, and what the tests look at of their ends.
package main

import (
	"context"
	"encoding/base64"
	"io"
	"log"
	"os"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	service   = "/ferserve.v1.EmotionService/"
	faceBytes = 48 * 48
	patience  = 60 * time.Second
)

// outcome is what a call ended with.
type outcome struct {
	Code    int         `json:"code"`
	Message string      `json:"message,omitempty"`
	Details string      `json:"details,omitempty"`
	Scores  [][]float32 `json:"scores,omitempty"`
	Answers []answer    `json:"answers,omitempty"`
}

// answer is one of a stream.
type answer struct {
	ID     int64       `json:"id"`
	Scores [][]float32 `json:"scores"`
}

func reported(err error) outcome {
	found := status.Convert(err)
	reported := outcome{Code: int(found.Code()), Message: found.Message()}
	if len(found.Proto().GetDetails()) > 0 {
		details, _ := proto.Marshal(found.Proto())
		reported.Details = base64.StdEncoding.EncodeToString(details)
	}
	return reported
}

// faces packs faces `first` to `first + count - 1` of those that all clients here make.
func faces(first, count int) *packedFaces {
	pixels := make([]byte, count*faceBytes)
	for at := range pixels {
		pixel := at % faceBytes
		pixels[at] = byte(pixel * pixel % (2 + 29*(first+at/faceBytes)%254))
	}
	return &packedFaces{Pixels: pixels, FaceCount: int32(count)}
}

func connect(address string, more ...grpc.DialOption) *grpc.ClientConn {
	security := grpc.WithInsecure()
	if authority := os.Getenv("CA_FILE"); authority != "" {
		loaded, err := credentials.NewClientTLSFromFile(authority, "")
		if err != nil {
			log.Fatal(err)
		}
		security = grpc.WithTransportCredentials(loaded)
	}
	connection, err := grpc.Dial(address, append(more, security)...)
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

func within(patience time.Duration) context.Context {
	ctx, _ := context.WithTimeout(context.Background(), patience) //nolint:govet // the process ends soon
	return ctx
}

func classify(ctx context.Context, connection *grpc.ClientConn, packed *packedFaces) outcome {
	response := &classifyFacesResponse{}
	err := connection.Invoke(ctx, service+"ClassifyFaces", &classifyFacesRequest{Packed: packed}, response)
	if err != nil {
		return reported(err)
	}
	return scoresOf(response)
}

func scoresOf(response *classifyFacesResponse) outcome {
	found := outcome{}
	for _, result := range response.Results {
		found.Scores = append(found.Scores, result.Prediction.Scores)
	}
	return found
}

// stream is a ClassifyStream call.
type stream struct {
	grpc.ClientStream
	answers []answer
}

func open(ctx context.Context, connection *grpc.ClientConn) *stream {
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	call, err := connection.NewStream(ctx, description, service+"ClassifyStream")
	if err != nil {
		log.Fatal(err)
	}
	return &stream{ClientStream: call}
}

// send writes a message; of a stream that has ended, `rest` tells.
func (s *stream) send(id int64, count int) {
	_ = s.SendMsg(&classifyStreamRequest{SequenceID: id, Faces: faces(int(id), count)})
}

// next reads one answer.
func (s *stream) next() error {
	response := &classifyStreamResponse{}
	if err := s.RecvMsg(response); err != nil {
		return err
	}
	found := answer{ID: response.SequenceID}
	for _, each := range response.Predictions {
		found.Scores = append(found.Scores, each.Scores)
	}
	s.answers = append(s.answers, found)
	return nil
}

// rest reads to the end.
func (s *stream) rest() outcome {
	for {
		err := s.next()
		if err == nil {
			continue
		}
		found := outcome{}
		if err != io.EOF {
			found = reported(err)
		}
		found.Answers = s.answers
		return found
	}
}

func with(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}
