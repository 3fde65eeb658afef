"""A custom node for ComfyUI: copy or link this folder into its ``custom_nodes``. It imports ComfyUI, so only that loads it."""

from .nodes import TaylorSeer

NODE_CLASS_MAPPINGS = {"TaylorSeer": TaylorSeer}
NODE_DISPLAY_NAME_MAPPINGS = {"TaylorSeer": "TaylorSeer (forecast model outputs)"}
