"""Prose of the part of docs/explanation/validation.md on engines, around the tables of ``engine_runs``."""

from typing import Final

TEXT: Final = """\
## Engines against served runs

Every public run at hand beside the engine that it names (`provision engines`), good or bad: a closed loop on one
replica, its iterations summed from the engine's kernel tables, with its schedule, budgets, admission, host times and
memory (`python -m tests.oracles.engine_runs FOLDER`, AIConfigurator's samples, Apache-2.0; vLLM 0.30 from
tgarg01/silybench-data). Errors are sizes in %, mean for TPOT, median for TTFT; a bias is a mean with its sign.
*Fitted* are the runs that constants were fitted to: of vLLM of 2025 and TensorRT-LLM those at TP 4 in FP8 and 16
bits (and in NVFP4 those of vLLM, which chose its products), of SGLang those of Llama-3.1-8B at TP 1, of vLLM of 2026
those in 16 bits. Runs with a TTFT of 20 s and more overflowed their memory or queue and are left out; so are, here,
the runs of Qwen3-32B on SGLang at TP 1:

{summary}

No source says how many requests its client sent for each in flight, except that the 70B rows match a public client:
ten, with lengths uniform in 0.8 to 1.0 of the nominal (InferenceMAX of October 2025, SemiAnalysisAI/InferenceX,
whose servers' flags are public too). Of the others it was chosen by the TTFT of one TP (vLLM:
Qwen3-32B 10, by TP 2; TensorRT-LLM: 5, by TP 1; SGLang: Llama-3.1-8B 5, by TP 1, Qwen3-32B 1, by TP 4). The last four
columns have TPOT and TTFT for 1, 2, 5 and 10. Of vLLM 0.30 the median gap between tokens stands for TPOT, and the
number of requests is recorded:

{groups}

- **The client is the largest unknown.** From one to ten requests for each in flight TPOT moves by up to 20 points and
  TTFT by hundreds; a TTFT here is worth no more than the guess.
- **Qwen3-32B on SGLang at TP 1** (three runs below 20 s, three above) has memory for less than the 16 requests in
  flight: TTFTs of 2 to 40 s are not explained.
- **SGLang's order** cannot be told from these runs. Its scheduler runs prompts in place of decodes (a fact of its
  source); decodes first explain them as well:

{orders}

- **The simulator** (policy `chunked`) serves a sample of SGLang's and TensorRT-LLM's runs with the evictions of this
  loop, TPOT within 5 % of it, TTFT up to 15 % longer: its curves count prompts that share an iteration as one.
- **0.04 ms of host time a sequence**, fitted to vLLM 0.12, would make the gaps of vLLM 0.30 23 to 32 % too long. None
  is added there.
- **TensorRT-LLM is predicted with its own products and sums**, and with vLLM's attention and NVFP4 products. Its rows
  of FP8 products find the scale of their inputs and quantize them, 9 to 11 us at few rows: its Linear module was timed
  without a scale. A checkpoint brings the scales, and the kernel before quantizes. That time is taken off, as read
  from the narrowest products; with it decode of 70B would be 30 to 40 % too long at TP 4. Qwen3-32B is 11 % short at
  TP 1: whether its runs quantized so is not recorded.
- **TTFT of TensorRT-LLM at 1,024 + 1,024 tokens** is short by up to 20 iterations, for which the client's servers let
  prompts wait to share an iteration (`batch_wait_timeout_iters`). That is not simulated.

### Kernel tables tried

Engines take their newest tables. Another replaces one on a GPU where it leaves at most two thirds of the error of the
runs fitted to there. Mean size of the errors of TPOT in %, one table in the place of another; **bold** is what the
engine takes:

{choices}

- **Products on H200** are those of vLLM 0.19: 2.9 for 6.2 %, and of the runs not fitted to 3.6 for 6.9 %. Those of 0.24
  count the quantization of their inputs, which vLLM fuses with what comes before. `vllm` has no such runs of its own
  and follows.
- **Sums on B200** are those of SGLang: 3.1 for 6.8 %. `vllm` follows here too.
- **NVFP4 products on B200** are those of vLLM 0.19, the kernels nearer to 2025: 3.1 for 8.7 %, and at TP 1, which
  nothing was fitted to, 5.3 for 5.7 %.
- **TensorRT-LLM** keeps its own: no other table leaves two thirds on all its GPUs. vLLM's FP8 products leave 5 for 7 %
  with Qwen3-32B on H100, and 13 to 15 for 5 to 6 % with Llama-3.1-70B.

### Which comparisons between GPUs can be trusted

TPOT of Llama-3.1-70B on one GPU over that on an H200 at equal TP and load, predicted over what the rows say:

{load}

All pairs are within 15 %. What moved those that were not:

- **Norms in the sums.** On B200 the public client's vLLM computed norms and quantization in the all-reduce
  (`enable_fi_allreduce_fusion`), on Hopper not; TensorRT-LLM does so with Llama from a hidden size above 4,096 on. With
  norms of their own decode of `vllm-2025` at TP 4 was 10 % long on B200, and pairs came to 1.23.
- **A step at 32 rows.** FP8 products of vLLM 0.19 and 0.24 on H200 take 6 to 15 % longer at 32 rows than at 48, and
  vLLM's runs show it: 24.7, 33.2 and 37.4 ms at 16, 32 and 64 in flight. TensorRT-LLM's do not (23.0, 25.8, 32.3 ms),
  and its own products have none; with vLLM's in their place a pair came to 0.79.

What is left, by size:

- **1.15 and 1.13**, `vllm-2025` at TP 4, 64 and 32 in flight, 8,192 output tokens: H200 is 4 and 7 % short, B200 10 and
  6 % long. On B200 the measured TPOT is shorter with 8,192 output tokens than with 1,024 (9.4 for 11.4 ms, 11.5 for
  13.6), although the cache is longer, and shorter with 8 in flight than with 4 (8.0 for 8.4 ms): prompts, for which
  its servers had no CUDA graphs (`FULL_DECODE_ONLY`), are slower there than here, and decodes faster.
- **0.86 to 0.89**, TensorRT-LLM, 64 and 128 in flight: H200 is 7 to 10 % long, since decode attention of
  FlashAttention 3, which reads an FP8 cache at a third of the bandwidth, stands for its own.
- **1.12**, `vllm-2025` at TP 1, 16 in flight, 8,192 prompt tokens: H200 is 12 % short, as prompts are.

B200 over H200 in tokens/s of eight GPUs, Llama2-70B in FP8, MLPerf's lengths (294 and 289 tokens), all requests at
once, best TP each; lengths are equal, or output tokens vary by 40 %:

{ratios}

Its parts: the mean iteration of one GPU with as many sequences as fit or may run, which computes as many prompts as
requests end, in ms (closed form: no evictions, no start and end):

{parts}

- **Products** take 1.95 times as long a token on H200 under `vllm`, element-wise work 1.8 times: the ratio of the GPUs.
- **Decode attention** takes 3.7 times as long. At 440 tokens of context H200 reads an FP8 cache at 0.36 of its
  bandwidth, with two versions of vLLM (FlashAttention 3; at 256 tokens no faster than one of 16 bits), B200 at 0.8.
  Without attention the ratio is 1.9.
- **Memory**: H200 holds 682 requests in full, B200 1,024, the most that vLLM runs. Requests of equal lengths grow in
  step, so that H200 under `vllm` evicts 791 of 3,072 and computes them again; with varied lengths it evicts 249.
- **Host time of a sequence** is the same on both and brings `vllm-2025` closer.
- **SGLang** runs prompts first and lets requests in by its estimate of their outputs: on H200 at TP 1 it evicts 210 of
  3,072 requests of equal lengths, and none of varied ones. Were all outputs kept free, the ratios would be 1.87 and
  1.84; without an estimate, as prompts find room, 2.25 and 2.34. Its constants are those of its source; no run was
  fitted.

Offline throughput that NVIDIA publishes, all requests at once, engine `tensorrt-llm`; below, MLPerf's Llama2-70B
Offline, median of the closed entries on eight GPUs, beside two engines in FP8 at their best TP, which are not tuned
for it:

{offline}

{mlperf}

**Trust** comparisons between H100, H200 and B200 with one engine in FP8 or 16 bits over NVLink: their ratios at equal
load are within 6 % on average and 15 % in single runs. **Trust less** NVFP4 on B200 (TPOT 3 to 7 % off, offline
throughput 4 % too low to 10 % too high, in single rows 32 and 44 %), the ratio of B200 to H200 in offline throughput
(1.8 to 2.2 by engine and lengths; the public entries at hand have no FP8 on B200, in different types they give 2.9),
L40S at TP 4 (one model was compared) and small models at TP 4 and more, where host time decides. **Do not trust** PCIe
at TP 8, which was compared with nothing, MI300X (1.3 times too fast: its kernels were not measured), or a comparison
between engines by less than 15 %.
"""
