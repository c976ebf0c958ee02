"""The plainest service one would write with FastAPI and ONNX Runtime: no checks, no batching, one file.

`uvicorn benchmarks.serving.plain:app`, with MODEL, THREADS and CLASSES in the environment.
"""

import io
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, UploadFile
from PIL import Image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
names = os.environ["CLASSES"].split(",")
app = FastAPI()


def answers(rows: np.ndarray) -> list[dict]:
    """Class and probabilities of uint8 rows (N, H, W, C)."""
    logits = session.run(None, {"images": rows})[0].astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return [
        {"class": names[row.argmax()], "probabilities": dict(zip(names, row.tolist(), strict=True))} for row in shares
    ]


@app.post("/predict")
def predict(image: UploadFile) -> dict:
    pixels = np.asarray(Image.open(io.BytesIO(image.file.read())))
    return answers(pixels.reshape(1, pixels.shape[0], pixels.shape[1], -1))[0]


@app.post("/predict_batch")
def predict_batch(images: UploadFile) -> dict:
    return {"predictions": answers(np.load(io.BytesIO(images.file.read())))}
