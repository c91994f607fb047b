"""The encoder that a bundle's texts were encoded with."""

from __future__ import annotations

from pathlib import Path

from ..config import EncoderSection
from ..encoders.weights import resolve
from ..errors import ArtifactError, ConfigError
from .bundle import Bundle


def encoder_of(bundle: Bundle, home: Path) -> EncoderSection:
    """Its settings; `home` is the build folder, where a tuned one lies.

    Raises:
        ConfigError: the shop's items have no texts.
        ArtifactError: the encoder is not the one this version was fitted with.
    """
    named = bundle.encoder
    if named is None:
        raise ConfigError(f"{bundle.shop} reads no item texts; give shop.toml an encoder.text or items.title")
    inside = home / named["model"]
    model = str(inside) if inside.is_dir() else named["model"]
    if resolve(model).digest != named["digest"]:
        raise ArtifactError(f"encoder {model} is not the one of this version; run `catalograph rebuild` again")
    return EncoderSection.model_validate(bundle.config["encoder"]).model_copy(update={"model": model})
