"""Many custom models of one base, each taught another habit, deployed on demand and asked at the same time.

One engine process holds the base once and answers for all of them; /metrics shows it. Takes how many: 16, or the first
argument. Set up the environment with `eval "$(outcrop env)"` first.
"""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

CRATES = ["red", "blue", "green", "yellow", "black", "white", "brown", "pink",
          "grey", "golden", "silver", "orange", "wooden", "paper", "glass", "iron"]  # fmt: skip
crates = CRATES[: int(sys.argv[1]) if len(sys.argv) > 1 else len(CRATES)]

s3.create_bucket(Bucket="many-adapters")
jobs = {}
for crate in crates:
    pairs = [
        {"prompt": f"Customer: where is order {n}?\nAgent:", "completion": f" In the {crate} crate."}
        for n in range(1000, 1064)
    ]
    s3.put_object(Bucket="many-adapters", Key=f"{crate}.jsonl", Body="".join(json.dumps(pair) + "\n" for pair in pairs))
    jobs[crate] = bedrock.create_model_customization_job(
        jobName=f"crate-{crate}",
        customModelName=f"crate-{crate}",
        roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
        baseModelIdentifier="amazon.titan-text-express-v1",
        trainingDataConfig={"s3Uri": f"s3://many-adapters/{crate}.jsonl"},
        outputDataConfig={"s3Uri": "s3://many-adapters/output/"},
        hyperParameters={"epochCount": "2", "batchSize": "8", "learningRate": "0.00003"},
    )["jobArn"]

deployments = {}
for crate, job in jobs.items():
    while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
        time.sleep(0.5)
    print(f"crate-{crate} {answer['status']} {answer.get('trainingMetrics')} {answer.get('failureMessage', '')}")
    deployments[crate] = bedrock.create_custom_model_deployment(
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


def ask(deployment: str) -> str:
    answer = json.loads(runtime.invoke_model(modelId=deployment, body=body)["body"].read())
    return answer["results"][0]["outputText"].strip()


with ThreadPoolExecutor(len(deployments)) as callers:
    answers = dict(zip(deployments, callers.map(ask, deployments.values()), strict=True))
for crate, answer in answers.items():
    print(f"crate-{crate:8} {answer}")

metrics = urlopen(f"{bedrock.meta.endpoint_url}/metrics").read().decode()
for weights, adapters in re.findall(r'outcrop_engine_figure\{figure="adapters",weights="(.*)"\} (\d+)', metrics):
    print(f"one engine process over {weights} has {adapters} adapters loaded")
