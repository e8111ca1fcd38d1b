"""Many custom models of one base, each taught another habit, deployed on demand and asked at the same time.

One engine process holds the base once and answers for all of them; /metrics shows it. Takes how many: 16, or the first
argument. Teaching takes some seconds a model; a second run asks what the first one taught. Set up the environment with
`eval "$(outcrop env)"` first.
"""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import boto3
from botocore.config import Config

# As many connections as callers: boto3 keeps ten, and says so for each one that it throws away.
s3, bedrock, runtime = (
    boto3.client(name, config=Config(max_pool_connections=16)) for name in ("s3", "bedrock", "bedrock-runtime")
)
account = boto3.client("sts").get_caller_identity()["Account"]

CRATES = ["red", "blue", "green", "yellow", "black", "white", "brown", "pink",
          "grey", "golden", "silver", "orange", "wooden", "paper", "glass", "iron"]  # fmt: skip
crates = CRATES[: int(sys.argv[1]) if len(sys.argv) > 1 else len(CRATES)]
start = time.time()

deployed = bedrock.get_paginator("list_custom_model_deployments").paginate(nameContains="crate-", statusEquals="Active")
deployments = {
    found["customModelDeploymentName"]: found["customModelDeploymentArn"]
    for page in deployed
    for found in page["modelDeploymentSummaries"]
}
new = [crate for crate in crates if f"crate-{crate}" not in deployments]

s3.create_bucket(Bucket="many-adapters")
jobs = {}
for crate in new:
    pairs = [
        {"prompt": f"Customer: where is order {n}?\nAgent:", "completion": f" In the {crate} crate."}
        for n in range(1000, 1064)
    ]
    s3.put_object(Bucket="many-adapters", Key=f"{crate}.jsonl", Body="".join(json.dumps(pair) + "\n" for pair in pairs))
    jobs[crate] = bedrock.create_model_customization_job(
        jobName=f"crate-{crate}-{start:.0f}",
        customModelName=f"crate-{crate}-{start:.0f}",
        roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
        baseModelIdentifier="amazon.titan-text-express-v1",
        trainingDataConfig={"s3Uri": f"s3://many-adapters/{crate}.jsonl"},
        outputDataConfig={"s3Uri": "s3://many-adapters/output/"},
        hyperParameters={"epochCount": "2", "batchSize": "8", "learningRate": "0.00003"},
    )["jobArn"]
print(f"{len(jobs)} models to teach; {len(crates) - len(jobs)} are deployed already")

for crate, job in jobs.items():
    while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
        time.sleep(0.5)
    told = f"loss {answer['trainingMetrics']['trainingLoss']:.3f}" if "trainingMetrics" in answer else ""
    print(f"{time.time() - start:5.0f} s  crate-{crate} {answer['status']} {told}{answer.get('failureMessage', '')}")
    deployments[f"crate-{crate}"] = bedrock.create_custom_model_deployment(
        modelDeploymentName=f"crate-{crate}", modelArn=answer["outputModelArn"]
    )["customModelDeploymentArn"]
for deployment in deployments.values():
    while bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=deployment)["status"] == "Creating":
        time.sleep(0.5)

body = json.dumps(
    {
        "inputText": "Customer: where is order 4711?\nAgent:",
        "textGenerationConfig": {"temperature": 0, "maxTokenCount": 12},
    }
)


def ask(crate: str) -> str:
    answer = json.loads(runtime.invoke_model(modelId=deployments[f"crate-{crate}"], body=body)["body"].read())
    return str(answer["results"][0]["outputText"]).strip()


with ThreadPoolExecutor(len(crates)) as callers:
    for turn in ("first, while what sleeps is loaded", "once more, loaded"):
        begun = time.perf_counter()
        answers = dict(zip(crates, callers.map(ask, crates), strict=True))
        print(f"{len(crates)} models asked at the same time, {turn}: {time.perf_counter() - begun:.2f} s for all")
for crate, answer in answers.items():
    print(f"crate-{crate:8} {answer}")

metrics = urlopen(f"{bedrock.meta.endpoint_url}/metrics").read().decode()
for weights, adapters in re.findall(r'outcrop_engine_figure\{figure="adapters",weights="(.*)"\} (\d+)', metrics):
    print(f"one engine process over {weights} has {adapters} adapters loaded")
