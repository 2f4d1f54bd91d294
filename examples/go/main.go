// Finds and classifies the faces of a picture: analyze PICTURE [HOST:PORT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	pb "ferserve-example/ferservepb"

	"google.golang.org/grpc"
)

func main() {
	server := "localhost:50051"
	if len(os.Args) > 2 {
		server = os.Args[2]
	}
	picture, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.Dial(server, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request := &pb.AnalyzeImagesRequest{Images: [][]byte{picture}}
	answer, err := pb.NewEmotionServiceClient(connection).AnalyzeImages(ctx, request)
	if err != nil {
		log.Fatal(err)
	}
	result := answer.Results[0]
	if failure := result.GetFailure(); failure != nil {
		log.Fatal(failure.Message)
	}
	for _, face := range result.GetAnalysis().Faces {
		prediction := face.GetPrediction()
		emotion, confidence := answer.Labels[prediction.LabelIndex], prediction.Scores[prediction.LabelIndex]
		fmt.Printf("%s %.2f at %d, %d\n", emotion, confidence, face.Box.Left, face.Box.Top)
	}
}
