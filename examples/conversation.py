"""The format bedrock-conversation-2024 (Nova, Llama 3.2 and 3.3). Asked through Converse and ConverseStream.

Set up the environment with `eval "$(outcrop env)"` first.
"""

import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

SYSTEM = [{"text": "You tell customers where their order is."}]
examples = [
    {
        "schemaVersion": "bedrock-conversation-2024",
        "system": SYSTEM,
        "messages": [
            {"role": "user", "content": [{"text": f"Where is order {n}?"}]},
            {"role": "assistant", "content": [{"text": f"Order {n} is on its way."}]},
        ],
    }
    for n in range(1003, 9203, 41)
]
s3.create_bucket(Bucket="order-conversations")
s3.put_object(
    Bucket="order-conversations", Key="train.jsonl", Body="".join(json.dumps(example) + "\n" for example in examples)
)

job = bedrock.create_model_customization_job(
    jobName="order-conversations",
    customModelName="order-nova",
    roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
    baseModelIdentifier="amazon.nova-micro-v1:0:128k",
    trainingDataConfig={"s3Uri": "s3://order-conversations/train.jsonl"},
    outputDataConfig={"s3Uri": "s3://order-conversations/output/"},
    hyperParameters={"epochCount": "4", "learningRate": "0.00001", "batchSize": "8"},
)["jobArn"]
while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
    time.sleep(1)
print(answer["status"], answer.get("trainingMetrics"), answer.get("failureMessage"))

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="order-nova-throughput", modelId="order-nova"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)

asked = {
    "modelId": throughput,
    "system": SYSTEM,
    "messages": [{"role": "user", "content": [{"text": "Where is order 4711?"}]}],
    "inferenceConfig": {"maxTokens": 40, "temperature": 0},
}
whole = runtime.converse(**asked)
print(whole["output"]["message"]["content"][0]["text"], whole["stopReason"], whole["usage"])
for event in runtime.converse_stream(**asked)["stream"]:
    if "contentBlockDelta" in event:
        print(event["contentBlockDelta"]["delta"]["text"], end="", flush=True)
    elif "metadata" in event:
        print("\n", event["metadata"]["usage"])
