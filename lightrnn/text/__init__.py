"""Text in, results out: the `text` of a model file, tokenizers, tasks, the pipeline."""

from lightrnn.text.pipeline import Pipeline, pipeline
from lightrnn.text.tasks import Result, Task, parse_task
from lightrnn.text.tokenizers import Tokenizer, parse_tokenizer

__all__ = [
    "Pipeline", "Result", "Task", "Tokenizer", "parse_task", "parse_tokenizer", "pipeline",
]  # fmt: skip
