// Finds and classifies the faces of a picture: node analyze.js PICTURE [HOST:PORT]
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const [picture, server = "localhost:50051"] = process.argv.slice(2);
const includeDirs = [path.join(__dirname, "../../proto")];
const loaded = loadSync("ferserve/v1/emotion_service.proto", { includeDirs, keepCase: true, oneofs: true, defaults: true });
const { EmotionService } = grpc.loadPackageDefinition(loaded).ferserve.v1;

const client = new EmotionService(server, grpc.credentials.createInsecure());
const deadline = Date.now() + 10_000;
client.AnalyzeImages({ images: [fs.readFileSync(picture)] }, { deadline }, (error, answer) => {
  client.close();
  if (error) throw error;
  const [{ analysis, failure }] = answer.results;
  if (failure) throw new Error(failure.message);
  for (const { box, prediction } of analysis.faces) {
    const emotion = answer.labels[prediction.label_index];
    console.log(`${emotion} ${prediction.scores[prediction.label_index].toFixed(2)} at ${box.left}, ${box.top}`);
  }
});
