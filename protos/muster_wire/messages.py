"""Pipelines, recipes and draws as messages, and back: what orders and headers say about compression."""

from __future__ import annotations

from muster_wire.codecs import Pipeline
from muster_wire.errors import Cause, PayloadError
from muster_wire.feedback import Recipe
from muster_wire.selection import Choice
from muster_wire.submodel import Draw
from muster_wire.v1 import federation_pb2 as pb


def pipeline_message(pipeline: Pipeline) -> pb.Pipeline:
    """A pipeline as a message."""
    numbers, flags, block = pipeline.fields
    return pb.Pipeline(numbers=pb.CodecId.Name(numbers), flags=flags, block=block)


def pipeline_from(message: pb.Pipeline) -> Pipeline:
    """A peer's pipeline; PayloadError for one that can't be."""
    return Pipeline.from_fields(message.numbers, message.flags, message.block)


def recipe_message(recipe: Recipe) -> pb.Recipe:
    """A recipe as a message."""
    return pb.Recipe(
        pipeline=pipeline_message(recipe.pipeline),
        share=recipe.choice.share,
        per_tensor=recipe.choice.per_tensor,
        sampled=recipe.choice.sampled,
        momentum=recipe.momentum,
        warm_up=recipe.warm_up,
        error_feedback=recipe.error_feedback,
        probe=recipe.probe,
    )


def recipe_from(message: pb.Recipe) -> Recipe:
    """A peer's recipe; PayloadError for one that can't be."""
    try:
        return Recipe(
            pipeline_from(message.pipeline),
            Choice(message.share, message.per_tensor, message.sampled),
            message.momentum,
            message.warm_up,
            message.error_feedback,
            message.probe,
        )
    except ValueError as error:
        raise PayloadError(Cause.MALFORMED, f"a recipe that can't work: {error}") from error


def draw_message(draw: Draw, groups: str) -> pb.SubModel:
    """A draw as a message, for the groups with this digest."""
    return pb.SubModel(seed=draw.seed, number=draw.number, masks=draw.masks, keep=draw.keep, groups=groups)


def draw_from(message: pb.SubModel) -> Draw:
    """A peer's draw; PayloadError for one that can't be."""
    try:
        return Draw(message.seed, message.number, message.masks, message.keep)
    except ValueError as error:
        raise PayloadError(Cause.MALFORMED, str(error)) from error
