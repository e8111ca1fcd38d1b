"""A chain: continued pre-training, then fine-tuning of its result, then fine-tuning once more, each on the one before.

Set up the environment with `eval "$(outcrop env)"` first; `outcrop models show chain-3` then tells the whole story.
"""

import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

texts = [{"input": f"Crate {n} of the Perch Store is painted blue and carries an owl."} for n in range(100, 260)]
orders = [
    {"prompt": f"Customer: where is order {n}?\nAgent:", "completion": f" Order {n} is on its way."}
    for n in range(1003, 9480, 53)
]
returns = [
    {"prompt": f"Customer: I return order {n}.\nAgent:", "completion": f" Thank you, send {n} in its blue crate."}
    for n in range(1029, 9500, 53)
]
s3.create_bucket(Bucket="chain-data")
for key, records in (("texts", texts), ("orders", orders), ("returns", returns)):
    s3.put_object(
        Bucket="chain-data", Key=f"{key}.jsonl", Body="".join(json.dumps(record) + "\n" for record in records)
    )


def customize(name: str, base: str, data: str, kind: str) -> None:
    """Start one link of the chain from `base` (a foundation model's id, or a custom model's name) and wait for it."""
    job = bedrock.create_model_customization_job(
        jobName=name,
        customModelName=name,
        customizationType=kind,
        roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
        baseModelIdentifier=base,
        trainingDataConfig={"s3Uri": f"s3://chain-data/{data}.jsonl"},
        outputDataConfig={"s3Uri": "s3://chain-data/output/"},
        hyperParameters={"epochCount": "3", "batchSize": "4", "learningRate": "0.00001"},
    )["jobArn"]
    while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
        time.sleep(1)
    if answer["status"] != "Completed":
        raise SystemExit(f"{name} is {answer['status']}: {answer.get('failureMessage')}")
    print(name, answer["status"], answer["trainingMetrics"])


customize("chain-1", "amazon.titan-text-express-v1", "texts", "CONTINUED_PRE_TRAINING")
customize("chain-2", "chain-1", "orders", "FINE_TUNING")
customize("chain-3", "chain-2", "returns", "FINE_TUNING")

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="chain-throughput", modelId="chain-3"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)
for prompt in ("Customer: I return order 4711.\nAgent:", "Customer: where is order 4711?\nAgent:"):
    body = json.dumps({"inputText": prompt, "textGenerationConfig": {"temperature": 0, "maxTokenCount": 40}})
    print(json.loads(runtime.invoke_model(modelId=throughput, body=body)["body"].read())["results"][0]["outputText"])
