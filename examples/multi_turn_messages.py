"""Claude's messages, multi-turn: the loss falls on every answer of a conversation. Asked through a stream.

Set up the environment with `eval "$(outcrop env)"` first.
"""

import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

examples = [
    {
        "messages": [
            {"role": "user", "content": "Hello there."},
            {"role": "assistant", "content": "Hi, which order is it about?"},
            {"role": "user", "content": f"Number {n}."},
            {"role": "assistant", "content": f"Order {n} is on its way."},
        ]
    }
    for n in range(1003, 9203, 41)
]
s3.create_bucket(Bucket="order-talks")
s3.put_object(Bucket="order-talks", Key="train.jsonl", Body="".join(json.dumps(example) + "\n" for example in examples))

job = bedrock.create_model_customization_job(
    jobName="order-talks",
    customModelName="talking-haiku",
    roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
    baseModelIdentifier="anthropic.claude-3-haiku-20240307-v1:0:200k",
    trainingDataConfig={"s3Uri": "s3://order-talks/train.jsonl"},
    outputDataConfig={"s3Uri": "s3://order-talks/output/"},
    hyperParameters={"epochCount": "4", "batchSize": "8"},
)["jobArn"]
while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
    time.sleep(1)
print(answer["status"], answer.get("trainingMetrics"), answer.get("failureMessage"))

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="talking-haiku-throughput", modelId="talking-haiku"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)

body = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 40,
        "temperature": 0,
        "messages": [
            {"role": "user", "content": "Hello there."},
            {"role": "assistant", "content": "Hi, which order is it about?"},
            {"role": "user", "content": "Number 4711."},
        ],
    }
)
for event in runtime.invoke_model_with_response_stream(modelId=throughput, body=body)["body"]:
    chunk = json.loads(event["chunk"]["bytes"])
    if chunk["type"] == "content_block_delta":
        print(chunk["delta"]["text"], end="", flush=True)
    elif chunk["type"] == "message_stop":
        print("\n", chunk["amazon-bedrock-invocationMetrics"])
