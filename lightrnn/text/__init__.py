"""Text in, labels out: the `text` of a model file, tokenizers, tasks, the pipeline."""

from lightrnn.text.characters import CharacterTokenizer
from lightrnn.text.classification import Classifier, Prediction
from lightrnn.text.pipeline import Pipeline, pipeline
from lightrnn.text.schema import CharacterSpec, ClassificationSpec, parse

__all__ = [
    "CharacterSpec",
    "CharacterTokenizer",
    "ClassificationSpec",
    "Classifier",
    "Pipeline",
    "Prediction",
    "parse",
    "pipeline",
]
