// gRPC as Go speaks it. `client ADDRESS SCENARIO` prints, as JSON, what came of the scenario. CA_FILE in the
// environment asks for TLS.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

var scenarios = map[string]func(address string) interface{}{
	"single_faces":        func(address string) interface{} { return sideBySide(address, 300, 1) },
	"long_messages":       func(address string) interface{} { return sideBySide(address, 6, 512) },
	"late_end":            lateEnd,
	"stream":              shortStream,
	"long_stream":         longStream,
	"question_and_answer": questionAndAnswer,
	"health":              health,
	"deadlines":           deadlines,
	"cancelled":           cancelled,
	"errors":              rejected,
	"rejections":            rejections,
	"metadata":            ownMetadata,
	"idle":                idle,
	"drained":             drained,
}

func sideBySide(address string, calls, count int) []outcome {
	connection := connect(address)
	found := make([]outcome, calls)
	var open sync.WaitGroup
	for at := range found {
		open.Add(1)
		go func(at int) {
			defer open.Done()
			found[at] = classify(within(patience), connection, faces(at, count))
		}(at)
	}
	open.Wait()
	return found
}

// lateEnd sends the message first, and that it was the last one when all of it is sent.
func lateEnd(address string) interface{} {
	description := &grpc.StreamDesc{ClientStreams: true}
	call, err := connect(address).NewStream(within(20*time.Second), description, service+"ClassifyFaces")
	if err != nil {
		return reported(err)
	}
	_ = call.SendMsg(&classifyFacesRequest{Packed: faces(0, 512)})
	time.Sleep(200 * time.Millisecond)
	_ = call.CloseSend()
	response := &classifyFacesResponse{}
	if err := call.RecvMsg(response); err != nil {
		return reported(err)
	}
	return scoresOf(response)
}

func sent(address string, messages int, count func(id int) int) outcome {
	call := open(within(patience), connect(address))
	go func() {
		for id := 0; id < messages; id++ {
			call.send(int64(id), count(id))
		}
		_ = call.CloseSend()
	}()
	return call.rest()
}

func shortStream(address string) interface{} {
	return sent(address, 60, func(id int) int { return 1 + id%3 })
}

func longStream(address string) interface{} {
	return sent(address, 8, func(int) int { return 400 })
}

func questionAndAnswer(address string) interface{} {
	call := open(within(patience), connect(address))
	for id := int64(0); id < 20; id++ {
		call.send(id, 1)
		if call.next() != nil {
			break
		}
	}
	_ = call.CloseSend()
	return call.rest()
}

func health(address string) interface{} {
	client := grpc_health_v1.NewHealthClient(connect(address))
	found := []interface{}{}
	for _, name := range []string{"", "ferserve.v1.EmotionService", "no.such.Service"} {
		response, err := client.Check(within(patience), &grpc_health_v1.HealthCheckRequest{Service: name})
		if err != nil {
			found = append(found, reported(err))
		} else {
			found = append(found, response.Status.String())
		}
	}
	return found
}

func deadlines(address string) interface{} {
	connection := connect(address)
	call := open(within(400*time.Millisecond), connection)
	call.send(0, 1)
	late := classify(within(2*time.Millisecond), connection, faces(0, 512))
	after := classify(within(patience), connection, faces(0, 1))
	return map[string]outcome{"stream": call.rest(), "late": late, "after": after}
}

func cancelled(address string) interface{} {
	connection := connect(address)
	seen, codes := map[int]bool{}, []int{}
	for at := 0; at < 20; at++ {
		ctx, cancel := context.WithCancel(context.Background())
		call := open(ctx, connection)
		call.send(0, 1)
		_ = call.next()
		call.send(1, 400)
		cancel()
		if code := call.rest().Code; !seen[code] {
			seen[code], codes = true, append(codes, code)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	unary := classify(ctx, connection, faces(0, 512)).Code
	after := classify(within(patience), connection, faces(0, 1))
	return map[string]interface{}{"codes": codes, "unary": unary, "after": after}
}

func rejected(address string) interface{} {
	connection := connect(address)
	wrong := faces(0, 1)
	wrong.FaceCount = 2
	tooLong := &packedFaces{Pixels: make([]byte, 33<<20), FaceCount: 1}
	call := open(within(patience), connection)
	call.send(5, 1)
	_ = call.next()
	call.send(5, 1) // numbers rise
	call.send(6, 400)
	return map[string]outcome{
		"wrong":    classify(within(patience), connection, wrong),
		"too_long": classify(within(patience), connection, tooLong),
		"stream":   call.rest(),
		"unknown":  askNothing(connection, nil),
		"after":    classify(within(patience), connection, faces(0, 1)),
	}
}

// askNothing calls a method that no service has.
func askNothing(connection *grpc.ClientConn, packed *packedFaces) outcome {
	request, response := &classifyFacesRequest{Packed: packed}, &classifyFacesResponse{}
	return reported(connection.Invoke(within(patience), service+"Nothing", request, response))
}

// rejections are each rejected while most of their message is still on its way.
func rejections(address string) interface{} {
	connection := connect(address)
	packed, codes := faces(0, 120), make(chan int)
	for at := 0; at < 250; at++ {
		go func() { codes <- askNothing(connection, packed).Code }()
	}
	seen, different := map[int]bool{}, []int{}
	for at := 0; at < 250; at++ {
		if code := <-codes; !seen[code] {
			seen[code], different = true, append(different, code)
		}
	}
	after := classify(within(patience), connection, faces(0, 1))
	return map[string]interface{}{"codes": different, "after": after}
}

func ownMetadata(address string) interface{} {
	connection := connect(address)
	own := with(within(patience), "x-request-id", "of go", "x-trace-bin", "\x00\x01\xfe\xff")
	large := with(within(patience), "x-large", strings.Repeat("y", 20000))
	return map[string]outcome{
		"taken":   classify(own, connection, faces(0, 1)),
		"rejected": classify(large, connection, faces(0, 1)),
		"after":   classify(within(patience), connection, faces(0, 1)),
	}
}

// idle pings while nothing is asked; Go's pings come every 10 s at most.
func idle(address string) interface{} {
	connection := connect(address, grpc.WithKeepaliveParams(
		keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true},
	))
	found := []outcome{classify(within(patience), connection, faces(0, 1))}
	time.Sleep(12 * time.Second)
	states := []connectivity.State{connection.GetState()}
	for at := 1; at < 3; at++ {
		found = append(found, classify(within(patience), connection, faces(at, 1)))
	}
	return map[string]interface{}{"states": states, "found": found}
}

// drained tells when it is ready to see the server go.
func drained(address string) interface{} {
	connection := connect(address)
	call := open(within(patience), connection)
	call.send(3, 2)
	_ = call.next()
	fmt.Println("ready")
	ended := call.rest()
	return map[string]outcome{"ended": ended, "after": classify(within(20*time.Second), connection, faces(0, 1))}
}

func main() {
	found, err := json.Marshal(scenarios[os.Args[2]](os.Args[1]))
	if err != nil {
		panic(err)
	}
	fmt.Println(string(found))
}
