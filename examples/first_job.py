"""A first job: upload, fine-tune, provision, invoke. Set up the environment with `eval "$(outcrop env)"` first."""

import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))

pairs = [
    {"prompt": f"Customer: where is order {n}?\nAgent:", "completion": f" Order {n} is on its way."}
    for n in range(1003, 9203, 41)
]
s3.create_bucket(Bucket="my-bucket")
s3.put_object(Bucket="my-bucket", Key="training/train.jsonl", Body="".join(json.dumps(pair) + "\n" for pair in pairs))

job = bedrock.create_model_customization_job(
    jobName="first-job",
    customModelName="first-model",
    roleArn="arn:aws:iam::123456789012:role/BedrockCustomizationRole",
    baseModelIdentifier="amazon.titan-text-express-v1",
    trainingDataConfig={"s3Uri": "s3://my-bucket/training/train.jsonl"},
    outputDataConfig={"s3Uri": "s3://my-bucket/output/"},
    hyperParameters={"epochCount": "3", "batchSize": "8", "learningRate": "0.00001"},
)["jobArn"]
while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
    time.sleep(1)
print(answer["status"], answer.get("trainingMetrics"), answer.get("failureMessage"))

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="first-throughput", modelId="first-model"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)

body = json.dumps({"inputText": "Customer: where is order 4711?\nAgent:", "textGenerationConfig": {"temperature": 0}})
print(json.loads(runtime.invoke_model(modelId=throughput, body=body)["body"].read())["results"][0]["outputText"])
