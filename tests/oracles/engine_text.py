"""Prose of the part of docs/explanation/validation.md on engines, around the tables of ``engine_runs``."""

from typing import Final

TEXT: Final = """\
## Engines against served runs

Every public run at hand beside the engine that it names (`provision engines`), good or bad: a closed loop on one
replica, its iterations summed from the engine's kernel tables, with its schedule, budgets, admission, host times and
memory (`python -m tests.oracles.engine_runs FOLDER`, AIConfigurator's samples, Apache-2.0; vLLM 0.30 from
tgarg01/silybench-data). Errors are sizes in %, mean for TPOT, median for TTFT; a bias is a mean with its sign.
*Fitted* are the runs that constants were fitted to: of vLLM of 2025 and TensorRT-LLM those at TP 4 in FP8 and 16
bits, of SGLang those of Llama-3.1-8B at TP 1, of vLLM of 2026 those in 16 bits. Runs with a TTFT of 20 s and more
overflowed their memory or queue and are left out; so are, here, the runs of Qwen3-32B on SGLang at TP 1:

{summary}

No source says how many requests its client sent for each in flight, except that the 70B rows match a public client:
ten, with lengths uniform in 0.8 to 1.0 of the nominal. Of the others it was chosen by the TTFT of one TP (vLLM:
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
- **TensorRT-LLM is predicted with vLLM's products and SGLang's sums**, since its own products leave decode times 30 to
  40 % too long at TP 4 in 70B.

### Kernel tables tried

vLLM takes its newest tables. Another replaces one on a GPU where it leaves at most two thirds of the error of the runs
fitted to there. Mean size of the errors of TPOT in %, FP8, one table in the place of another; **bold** is what the
engine takes:

{choices}

- **Products on H200** are those of vLLM 0.19: 2.9 for 6.2 %, and of the runs not fitted to 3.6 for 6.9 %. Those of 0.24
  count the quantization of their inputs, which vLLM fuses with what comes before. `vllm` has no such runs of its own
  and follows.
- **Sums on B200** are those of SGLang: 10.0 for 15.2 %. `vllm` follows here too.
- **Decode attention** of 0.19 on B200 would leave 7.7 for 10.0 %, which is not two thirds; it is another kernel, and
  makes NVFP4 there worse (7.1 for 5.7 % at TP 1).
- **TensorRT-LLM**'s tables were chosen together, by all its runs fitted to: its own products leave 31 and 40 % in 70B,
  decode attention of 0.19 is better on H200 and B200, and worse on H100.

### Which comparisons between GPUs can be trusted

TPOT of Llama-3.1-70B on one GPU over that on an H200 at equal TP and load, predicted over what the rows say:

{load}

- **TensorRT-LLM at TP 1**: 0.79 and 0.85 are at 32 in flight, 0.85 at 128. vLLM's FP8 products on H200 take 23 ms of an
  iteration of 32 rows and 18 ms of one of 16; vLLM's runs show the step, TensorRT-LLM's do not, and vLLM's products
  stand for its own.
- **vllm-2025 at TP 4**: 1.23 and 1.22 are at 32 and 64 in flight with 8,192 output tokens. On H200 these runs are
  predicted 4 to 7 % short, on B200 15 to 17 % long: decode at TP 4 is 10 % long there on average, as kernels of 5 to
  10 us are timed one by one. All other pairs are within 16 %.
- **At one TP both errors of a pair count**, so that a ratio can be worse than each.

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
load are within 10 % on average and 23 % in single runs. **Trust less** NVFP4 on B200 (TPOT 3 to 9 % off, offline
throughput 11 to 28 % too high), the ratio of B200 to H200 in offline throughput (1.9 to 2.3 by engine and lengths; the
public entries at hand have no FP8 on B200, in different types they give 2.9), L40S at TP 4 (one model was compared) and
small models at TP 4 and more, where host time decides. **Do not trust** PCIe at TP 8, which was compared with nothing,
MI300X (1.3 times too fast: its kernels were not measured), or a comparison between engines by less than 15 %.
"""
