"""What a prompter is made from, so that another process can make the same."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.model.prompting.processors import load_processor
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.templates import load_template
from workers.model.weights.checkpoints import find_checkpoint, load_config

if TYPE_CHECKING:
    from workers.model.loading import LoadOptions


@dataclass(frozen=True, slots=True)
class PrompterSource:
    """folder: the checkpoint's. dtype: torch's name of the precision that pixels and sound features get."""

    folder: str
    dtype: str
    chat_template: str | None = None

    @classmethod
    def of(cls, options: "LoadOptions") -> "PrompterSource":
        """What `loading.load` makes its prompter from. Errors: ConfigurationError, as there."""
        from workers.model.weights.devices import choose_device, choose_dtype

        folder = find_checkpoint(options.model, options.revision, options.hub_cache).folder
        dtype = str(choose_dtype(options.dtype, choose_device(options.device))).removeprefix("torch.")
        template = options.chat_template
        return cls(str(folder), dtype, str(template.resolve()) if template else None)

    def as_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PrompterSource":
        """Read what `as_json` wrote."""
        return cls(**json.loads(text))

    def open(self) -> Prompter:
        """A prompter that prepares; it does not know which tokens end an answer."""
        import torch

        config = load_config(Path(self.folder))
        processor = load_processor(Path(self.folder), config)
        template = load_template(Path(self.chat_template)) if self.chat_template else None
        return Prompter(processor, config, template=template, dtype=getattr(torch, self.dtype))
