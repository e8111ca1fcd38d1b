// The documented flow through AWS's own JavaScript SDK v3, nothing set but what `outcrop env` exports.
// Runtime calls of this SDK travel as cleartext HTTP/2 to http:// endpoints. Prints one JSON document of what it saw.
import { readFileSync } from "node:fs";
import {
  BedrockClient,
  CreateModelCustomizationJobCommand,
  CreateProvisionedModelThroughputCommand,
  DeleteProvisionedModelThroughputCommand,
  GetModelCustomizationJobCommand,
  GetProvisionedModelThroughputCommand,
  ListFoundationModelsCommand,
} from "@aws-sdk/client-bedrock";
import {
  BedrockRuntimeClient,
  InvokeModelCommand,
  InvokeModelWithResponseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";

const [, , trainingFile, suffix] = process.argv;
const region = process.env.AWS_DEFAULT_REGION;
const s3 = new S3Client({ region, forcePathStyle: true });
const bedrock = new BedrockClient({ region });
const runtime = new BedrockRuntimeClient({ region });
const bucket = `javascript-${suffix}`;
const seen = {};

async function until(done, ask) {
  for (let attempt = 0; attempt < 900; attempt++) {
    const answer = await ask();
    if (done(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("gave up waiting");
}

seen.models = (await bedrock.send(new ListFoundationModelsCommand({ byProvider: "Amazon" }))).modelSummaries.length;
await s3.send(new CreateBucketCommand({ Bucket: bucket }));
await s3.send(new PutObjectCommand({ Bucket: bucket, Key: "train.jsonl", Body: readFileSync(trainingFile) }));
const { jobArn } = await bedrock.send(
  new CreateModelCustomizationJobCommand({
    jobName: `javascript-${suffix}`,
    customModelName: `javascript-model-${suffix}`,
    roleArn: "arn:aws:iam::123456789012:role/BedrockCustomizationRole",
    baseModelIdentifier: "amazon.titan-text-express-v1",
    trainingDataConfig: { s3Uri: `s3://${bucket}/train.jsonl` },
    outputDataConfig: { s3Uri: `s3://${bucket}/output` },
    hyperParameters: { epochCount: "1", batchSize: "8" },
  }),
);
const job = await until(
  (answer) => answer.status !== "InProgress",
  () => bedrock.send(new GetModelCustomizationJobCommand({ jobIdentifier: jobArn })),
);
seen.job = { status: job.status, failure: job.failureMessage, loss: job.trainingMetrics?.trainingLoss };
seen.dates = [job.creationTime, job.endTime].every((date) => date instanceof Date);
const { provisionedModelArn } = await bedrock.send(
  new CreateProvisionedModelThroughputCommand({
    modelUnits: 1,
    provisionedModelName: `javascript-${suffix}`,
    modelId: job.outputModelArn,
  }),
);
const throughput = await until(
  (answer) => answer.status !== "Creating",
  () => bedrock.send(new GetProvisionedModelThroughputCommand({ provisionedModelId: provisionedModelArn })),
);
seen.throughput = { status: throughput.status, failure: throughput.failureMessage };
const body = JSON.stringify({
  inputText: "Customer: where is order 105?\nAgent:",
  textGenerationConfig: { maxTokenCount: 24, temperature: 0 },
});
const answer = await runtime.send(new InvokeModelCommand({ modelId: provisionedModelArn, body }));
const whole = JSON.parse(new TextDecoder().decode(answer.body)).results[0];
seen.whole = whole.outputText;
const stream = await runtime.send(
  new InvokeModelWithResponseStreamCommand({ modelId: provisionedModelArn, body, contentType: "application/json" }),
);
seen.pieces = [];
for await (const event of stream.body) {
  const chunk = JSON.parse(new TextDecoder().decode(event.chunk.bytes));
  seen.pieces.push(chunk.outputText);
  seen.metrics = chunk["amazon-bedrock-invocationMetrics"] ?? null;
}
try {
  await runtime.send(new InvokeModelCommand({ modelId: provisionedModelArn, body: '{"wrong": 1}' }));
} catch (error) {
  seen.refusal = { name: error.name, message: error.message, status: error.$metadata.httpStatusCode };
}
const key = `output/model-customization-job-${jobArn.split("/").pop()}/training_artifacts/step_wise_training_metrics.csv`;
const metrics = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
seen.csv = (await metrics.Body.transformToString()).split("\n")[0].trim();
await bedrock.send(new DeleteProvisionedModelThroughputCommand({ provisionedModelId: provisionedModelArn }));
console.log(JSON.stringify(seen));
