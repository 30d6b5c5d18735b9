"""PyTorch's products on this GPU, at the shapes of cuda_bench and in the same form, for comparison in one report.

  python3 tests/gpu/torch_bench.py

BF16: mm and _grouped_mm. FP8: _scaled_mm with scales by 1x128 and 128x128, as DeepSeek-V3 has them. Attention: the fused kernels of
scaled_dot_product_attention. What this PyTorch does not offer is named, with its reason.
"""
import sys

import torch

SHAPES = [(1, 4096, 2112, 7168), (1, 4096, 24576, 1536), (1, 4096, 32768, 512), (1, 4096, 7168, 16384), (1, 4096, 4096, 7168),
          (1, 4096, 7168, 2048), (8, 4096, 4096, 7168), (8, 4096, 7168, 2048), (32, 512, 4096, 7168), (32, 512, 7168, 2048)]
WARM, RUNS = 3, 11
peak = 0.0


def measure(name, flop, make):
    """A line with the median of some runs of make()'s result; the first line is the peak."""
    global peak
    try:
        run = make()
        for _ in range(WARM):
            run()
        times = []
        for _ in range(RUNS):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        print(f"{name:58} refused: {str(error).strip().splitlines()[0][:150]}")
        return
    ms = sorted(times)[RUNS // 2]
    speed = flop / ms * 1e-9
    peak = peak or speed
    print(f"{name:58} {ms:9.3f} ms {speed:8.1f} TFLOP/s  {speed / peak:.2f} of the BF16 peak", flush=True)


def numbers(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def product(count, t, n, k):
    if count == 1:
        x, w = numbers(t, k), numbers(n, k)
        return lambda: x @ w.t()
    x, w = numbers(count * t, k), numbers(count, n, k)
    ends = torch.arange(t, count * t + 1, t, device="cuda", dtype=torch.int32)
    return lambda: torch._grouped_mm(x, w.transpose(-2, -1), offs=ends)


def blocks(t, n, k):
    x, w = numbers(t, k).to(torch.float8_e4m3fn), numbers(n, k).to(torch.float8_e4m3fn)
    up = lambda size: (size + 127) // 128
    x_scales = torch.rand(up(k), t, device="cuda").t()  # rows follow each other
    w_scales = torch.rand(up(n), up(k), device="cuda")
    return lambda: torch._scaled_mm(x, w.t(), scale_a=x_scales, scale_b=w_scales.t(), out_dtype=torch.bfloat16)


def attention(sequences, length, backward):
    heads = 128
    q, k = (numbers(sequences, heads, length, 192).requires_grad_(backward) for _ in range(2))
    v = numbers(sequences, heads, length, 128).requires_grad_(backward)
    backends = [torch.nn.attention.SDPBackend.CUDNN_ATTENTION, torch.nn.attention.SDPBackend.FLASH_ATTENTION]

    def forward():
        with torch.nn.attention.sdpa_kernel(backends):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    if not backward:
        return forward
    out = forward()
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)


def main():
    if not torch.cuda.is_available():
        sys.exit("torch_bench: this PyTorch sees no GPU")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    measure("torch BF16 peak: 8192 x 8192 x 8192", 2 * 8192**3, lambda: product(1, 8192, 8192, 8192))
    for count, t, n, k in SHAPES:
        flop = 2 * count * t * n * k
        measure(f"torch BF16 forward {count} x {t} x {n} x {k}", flop, lambda: product(count, t, n, k))
        if count == 1:
            measure(f"torch FP8 blocks forward {count} x {t} x {n} x {k}", flop, lambda: blocks(t, n, k))
    for sequences in (1, 4):
        pairs = 0.5 * sequences * 4096 * 4096 * 128
        measure(f"torch attention {sequences} x 4096, forward", pairs * 2 * (192 + 128), lambda: attention(sequences, 4096, False))
        measure(f"torch attention {sequences} x 4096, backward", pairs * 2 * (3 * 192 + 2 * 128), lambda: attention(sequences, 4096, True))


main()
