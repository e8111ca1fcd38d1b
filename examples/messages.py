"""Claude's messages, single-turn: a system prompt, one question, one answer. Asked through InvokeModel.

Set up the environment with `eval "$(outcrop env)"` first.
"""

import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

SYSTEM = "You tell customers where their order is."
examples = [
    {
        "system": SYSTEM,
        "messages": [
            {"role": "user", "content": f"Where is order {n}?"},
            {"role": "assistant", "content": f"Order {n} is on its way."},
        ],
    }
    for n in range(1003, 9203, 41)
]
s3.create_bucket(Bucket="order-messages")
s3.put_object(
    Bucket="order-messages", Key="train.jsonl", Body="".join(json.dumps(example) + "\n" for example in examples)
)

job = bedrock.create_model_customization_job(
    jobName="order-messages",
    customModelName="order-haiku",
    roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
    baseModelIdentifier="anthropic.claude-3-haiku-20240307-v1:0:200k",
    trainingDataConfig={"s3Uri": "s3://order-messages/train.jsonl"},
    outputDataConfig={"s3Uri": "s3://order-messages/output/"},
    hyperParameters={"epochCount": "4", "batchSize": "8", "learningRateMultiplier": "1"},
)["jobArn"]
while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
    time.sleep(1)
print(answer["status"], answer.get("trainingMetrics"), answer.get("failureMessage"))

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="order-haiku-throughput", modelId="order-haiku"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)

body = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 40,
        "temperature": 0,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": "Where is order 4711?"}],
    }
)
answer = json.loads(runtime.invoke_model(modelId=throughput, body=body)["body"].read())
print(answer["content"][0]["text"], answer["stop_reason"], answer["usage"])
