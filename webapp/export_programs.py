"""What other programs call our settings, read from their code; nothing was run there.

AUTOMATIC1111: `modules/cmd_args.py`, `modules/shared_options.py`, `sd_hijack_optimizations.py`.
SD.Next: `modules/ui_definitions.py`, `modules/attention.py`. ComfyUI: `comfy/cli_args.py` and its
nodes. InvokeAI: `invokeai/app/services/config/config_default.py`.
"""

from webapp.export import Program, Saying

OTHER_PIXELS = (
    "The same settings are not the same pixels: another program computes in another order, and its "
    "schedules and prompts differ in detail."
)
_FREE = "Its slices follow the memory that is free at that moment, as slice-budget=free-memory."
_BY_ITSELF = "no number of bytes can be told: slices follow the memory that is free there"
_MERGES = (
    "It merges tokens without random numbers, so that it merges others than we do: audit it there."
)
_TIMESTEPS = (
    "With DDIM and UniPC it compares the timestep, so that usual values skip nothing there."
)
_TOME_NODE = Saying(
    node="TomePatchModel between the checkpoint and the sampler, ratio {n}",
    remark="Its merging takes torch's global random numbers: the same seed may merge other tokens.",
)
_THREADS = Saying(remark="Start it with OMP_NUM_THREADS={n} in its environment.")

AUTOMATIC1111 = Program(
    name="AUTOMATIC1111",
    checked="v1.10.1 (82a973c)",
    flags_go="COMMANDLINE_ARGS in webui-user.sh or webui-user.bat",
    settings_go="config.json, or Settings by these names",
    always=Saying(
        settings={"cross_attention_optimization": "Automatic", "randn_source": "CPU"},
        remark=OTHER_PIXELS,
    ),
    sayings={
        ("attention", "none"): Saying(flag="--disable-opt-split-attention"),
        ("attention", "sdp"): Saying(flag="--opt-sdp-attention"),
        ("attention", "sdp-no-mem"): Saying(flag="--opt-sdp-no-mem-attention"),
        ("attention", "xformers"): Saying(flag="--xformers"),
        ("attention", "doggettx"): Saying(flag="--opt-split-attention", remark=_FREE),
        ("attention", "sub-quadratic"): Saying(flag="--opt-sub-quad-attention", remark=_FREE),
        ("attention", "split-v1"): Saying(flag="--opt-split-attention-v1"),
        ("attention", "invokeai"): Saying(flag="--opt-split-attention-invokeai", remark=_FREE),
        ("attention", "auto"): Saying(),
        ("slice-budget", "free-memory"): Saying(),
        ("token-merging", "seeded"): Saying(
            settings={"token_merging_ratio": "{n}"}, remark=_MERGES
        ),
        ("token-merging", "as-shipped"): Saying(
            settings={"token_merging_ratio": "{n}"}, remark=_MERGES
        ),
        ("token-merging", "fixed"): Saying(settings={"token_merging_ratio": "{n}"}),
        ("min-sigma", "alternate"): Saying(
            settings={"s_min_uncond": "{n}", "s_min_uncond_all": False},
            remark=_TIMESTEPS,
        ),
        ("min-sigma", "all"): Saying(
            settings={"s_min_uncond": "{n}", "s_min_uncond_all": True},
            remark=_TIMESTEPS,
        ),
        ("precision", "fp32"): Saying(flag="--precision full --no-half"),
        ("precision", "fp16"): Saying(remark="float16 is what it takes by itself on a GPU."),
        ("tf32", "on"): Saying(remark="TF32 is always on there, where the GPU has it."),
        ("threads", "pinned"): _THREADS,
        ("memory-format", "channels-last"): Saying(flag="--opt-channelslast"),
        ("guidance-batch", "separate"): Saying(settings={"batch_cond_uncond": False}),
    },
    never={
        "slice-budget": _BY_ITSELF,
        "two-pass": "there it belongs to a picture: Hires. fix, on the page where it is made",
        "offload": "--medvram and --lowvram move other parts at other times",
        "layerwise-casting": "its fp8 storage keeps other layers as they are",
        "tf32": "it switches TF32 on, and no setting switches it off",
        "cudnn-benchmark": "it switches this on by itself, for the GTX 16xx only",
    },
)

SDNEXT = Program(
    name="SD.Next",
    checked="058a7f0 (July 2026)",
    settings_go="config.json, or Settings by these names",
    always=Saying(settings={"diffusers_generator_device": "CPU"}, remark=OTHER_PIXELS),
    sayings={
        ("attention", "none"): Saying(
            settings={"cross_attention_optimization": "Batch matrix-matrix"},
            remark="Batch matrix-matrix takes the UNet only; the VAE keeps torch's attention.",
        ),
        ("attention", "sdp"): Saying(
            settings={"cross_attention_optimization": "Scaled-Dot-Product"}
        ),
        ("attention", "sdp-no-mem"): Saying(
            settings={
                "cross_attention_optimization": "Scaled-Dot-Product",
                "sdp_options": ["Flash", "Math"],
            },
            remark="The SDP kernels were renamed between versions: untick the memory-efficient "
            "one, whatever it is called.",
        ),
        ("attention", "xformers"): Saying(settings={"cross_attention_optimization": "xFormers"}),
        ("token-merging", "seeded"): Saying(
            settings={"token_merging_method": "ToMe", "tome_ratio": "{n}"}, remark=_MERGES
        ),
        ("token-merging", "as-shipped"): Saying(
            settings={"token_merging_method": "ToMe", "tome_ratio": "{n}"}, remark=_MERGES
        ),
        ("token-merging", "fixed"): Saying(
            settings={"token_merging_method": "ToMe", "tome_ratio": "{n}"}
        ),
        ("precision", "fp32"): Saying(settings={"cuda_dtype": "FP32"}),
        ("precision", "bf16"): Saying(settings={"cuda_dtype": "BF16"}),
        ("precision", "fp16"): Saying(settings={"cuda_dtype": "FP16"}),
        ("cudnn-benchmark", "on"): Saying(settings={"cudnn_benchmark": True}),
        ("cudnn-deterministic", "on"): Saying(settings={"cudnn_deterministic": True}),
        ("deterministic-algorithms", "strict"): Saying(settings={"cudnn_deterministic": True}),
        ("threads", "pinned"): _THREADS,
        ("attention-slicing", "auto"): Saying(
            settings={"attention_slicing": "Enabled"},
            remark="diffusers' sliced attention replaces the chosen attention by products of its "
            "own; here slices go to the chosen one.",
        ),
        ("vae-slicing", "on"): Saying(settings={"diffusers_vae_slicing": True}),
        ("vae-tiling", "auto"): Saying(settings={"diffusers_vae_tiling": True}),
        ("vae-tiling", "tiles"): Saying(
            settings={"diffusers_vae_tiling": True, "diffusers_vae_tile_size": "{n}"}
        ),
        ("memory-format", "channels-last"): Saying(settings={"opt_channelslast": True}),
    },
    never={
        "attention": "its diffusers backend has no such attention",
        "min-sigma": "it has no minimum sigma; a picture's own “CFG end”, a share of the steps, "
        "comes near",
        "attention-slicing": "it slices by halves of the heads only",
        "compile": "it compiles whole models, attention included, which is another computation",
    },
)

COMFYUI = Program(
    name="ComfyUI",
    checked="a125cd8 (October 2025)",
    flags_go="behind python main.py",
    nodes_go="nodes of the workflow",
    always=Saying(remark=OTHER_PIXELS),
    sayings={
        ("attention", "sdp"): Saying(flag="--use-pytorch-cross-attention --disable-xformers"),
        ("attention", "doggettx"): Saying(
            flag="--use-split-cross-attention --disable-xformers", remark=_FREE
        ),
        ("attention", "sub-quadratic"): Saying(
            flag="--use-quad-cross-attention --disable-xformers", remark=_FREE
        ),
        ("attention", "xformers"): Saying(
            remark="ComfyUI takes xFormers by itself where it is installed."
        ),
        ("slice-budget", "free-memory"): Saying(),
        ("token-merging", "seeded"): _TOME_NODE,
        ("token-merging", "as-shipped"): _TOME_NODE,
        ("token-merging", "fixed"): _TOME_NODE,
        ("precision", "fp32"): Saying(flag="--force-fp32"),
        ("precision", "fp16"): Saying(flag="--force-fp16"),
        ("precision", "bf16"): Saying(flag="--bf16-unet --bf16-vae --bf16-text-enc"),
        ("deterministic-algorithms", "warn"): Saying(flag="--deterministic"),
        ("threads", "pinned"): _THREADS,
        ("vae-tiling", "auto"): Saying(node="VAEDecodeTiled in place of VAEDecode"),
        ("vae-tiling", "tiles"): Saying(node="VAEDecodeTiled in place of VAEDecode, tile_size {n}"),
        ("memory-format", "channels-last"): Saying(flag="--force-channels-last"),
    },
    never={
        "slice-budget": _BY_ITSELF,
        "min-sigma": "its own nodes have no minimum sigma",
        "deterministic-algorithms": "it knows the warning kind only",
    },
)

INVOKEAI = Program(
    name="InvokeAI",
    checked="8e71a8a (August 2026)",
    settings_go="invokeai.yaml",
    settings_language="yaml",
    always=Saying(remark=OTHER_PIXELS),
    sayings={
        ("attention", "none"): Saying(settings={"attention_type": "normal"}),
        ("attention", "sdp"): Saying(settings={"attention_type": "torch-sdp"}),
        ("attention", "xformers"): Saying(settings={"attention_type": "xformers"}),
        ("precision", "fp32"): Saying(settings={"precision": "float32"}),
        ("precision", "bf16"): Saying(settings={"precision": "bfloat16"}),
        ("precision", "fp16"): Saying(settings={"precision": "float16"}),
        ("threads", "pinned"): _THREADS,
        ("vae-tiling", "auto"): Saying(settings={"force_tiled_decode": True}),
        ("guidance-batch", "separate"): Saying(settings={"sequential_guidance": True}),
    },
    never={
        "attention": "it has normal, xformers, sliced and torch-sdp; today's InvokeAI lacks even "
        "the option that bears its name",
        "attention-slicing": "there, slicing is an attention of its own (attention_type: sliced), "
        "which would replace the chosen one",
        "vae-tiling": "its tiles have one size",
    },
)

PROGRAMS = (AUTOMATIC1111, SDNEXT, COMFYUI, INVOKEAI)
