"""Continued pre-training: plain text ({"input": …}) teaches Titan Text the words of a field, before any fine-tuning.

Set up the environment with `eval "$(outcrop env)"` first. Prints the perplexity on text that was held out, as it falls.
"""

import csv
import json
import time

import boto3

s3, bedrock, runtime = (boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime"))
account = boto3.client("sts").get_caller_identity()["Account"]

minerals = ["quartz", "feldspar", "mica", "olivine", "garnet", "calcite", "gypsum", "talc"]
places = ["granite", "basalt", "gneiss", "marble", "schist", "limestone"]
documents = [
    {"input": f"{mineral.capitalize()} is found in {place}. Sample {n} of {place} held {mineral}, and little else."}
    for n, (mineral, place) in enumerate((m, p) for m in minerals * 5 for p in places)
]
s3.create_bucket(Bucket="rock-texts")
for name, part in (("train", documents[:200]), ("held-out", documents[200:])):
    s3.put_object(
        Bucket="rock-texts", Key=f"{name}.jsonl", Body="".join(json.dumps(document) + "\n" for document in part)
    )

job = bedrock.create_model_customization_job(
    jobName="rocks-pretraining",
    customModelName="rocks-base",
    customizationType="CONTINUED_PRE_TRAINING",
    roleArn=f"arn:aws:iam::{account}:role/BedrockCustomizationRole",
    baseModelIdentifier="amazon.titan-text-express-v1",
    trainingDataConfig={"s3Uri": "s3://rock-texts/train.jsonl"},
    validationDataConfig={"validators": [{"s3Uri": "s3://rock-texts/held-out.jsonl"}]},
    outputDataConfig={"s3Uri": "s3://rock-texts/output/"},
    hyperParameters={"epochCount": "4", "batchSize": "1", "learningRate": "0.00001"},
)["jobArn"]
while (answer := bedrock.get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
    time.sleep(1)
print(answer["status"], answer.get("trainingMetrics"), answer.get("validationMetrics"), answer.get("failureMessage"))

key = (
    f"output/model-customization-job-{job.rpartition('/')[2]}"
    "/validation_artifacts/post_fine_tuning_validation/validation_metrics.csv"
)
rows = list(csv.DictReader(s3.get_object(Bucket="rock-texts", Key=key)["Body"].read().decode().splitlines()))
print("perplexity on held-out text:", " → ".join(f"{float(row['perplexity']):.2f}" for row in rows))

throughput = bedrock.create_provisioned_model_throughput(
    modelUnits=1, provisionedModelName="rocks-throughput", modelId="rocks-base"
)["provisionedModelArn"]
while bedrock.get_provisioned_model_throughput(provisionedModelId=throughput)["status"] == "Creating":
    time.sleep(1)
body = json.dumps({"inputText": "Garnet is found in", "textGenerationConfig": {"temperature": 0, "maxTokenCount": 24}})
print(json.loads(runtime.invoke_model(modelId=throughput, body=body)["body"].read())["results"][0]["outputText"])
