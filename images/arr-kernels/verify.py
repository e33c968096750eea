"""Check from inside what arr-kernels adds: its operators against PyTorch in float64, on the CPU and on a GPU where there is one.

    operators: [rms_norm, bias_gelu]      schema, fake kernels, autograd, values and gradients of each

Where this usually runs there is no GPU and no network.
"""

from imagetiers_checks import Failed, check, main

HALF_ULP = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
#: In units of a result's rounding. Values and inner gradients are rounded once; sums over rows add up in float32.
ALLOWED = 4.0
#: What float32 sums may add, by the largest value.
SUMS = 2e-6

#: Rows of 16-byte packs and others; a warp a row, a block a row, more than fits the registers; one row and none.
SHAPES = ((1, 1), (3, 7), (2, 3, 100), (5, 64), (64, 128), (33, 1000), (7, 1024), (130, 2048), (9, 4096), (16, 8192),
          (3, 8191), (2, 16384), (3, 40000), (2, 70000), (1, 131080), (0, 64), (256,))  # fmt: skip
#: Enough rows that each block takes several.
MANY_ROWS = ((3000, 256), (2500, 4096), (5000, 24), (4096, 33))


def devices():
    """The CPU's kernels are the reference, and are held against PyTorch themselves."""
    import torch

    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def dtypes(device):
    """float64 is the CPU's alone."""
    import torch

    return [torch.float32, torch.float16, torch.bfloat16, *([torch.float64] if device == "cpu" else [])]


def rms_norm(x, vector):
    """PyTorch's, at its argument's precision."""
    import torch

    return torch.nn.functional.rms_norm(x, (x.shape[-1],), vector, 1e-6)


def references():
    """Each operator as ours and as PyTorch's."""
    import arr_kernels
    from torch.nn.functional import gelu

    return {
        "rms_norm": [("", lambda x, w: arr_kernels.rms_norm(x, w, 1e-6), rms_norm)],
        "bias_gelu": [
            (approximate, lambda x, b, a=approximate: arr_kernels.bias_gelu(x, b, a), lambda x, b, a=approximate: gelu(x + b, approximate=a))
            for approximate in ("none", "tanh")
        ],
    }  # fmt: skip


def compare(what, got, wanted, dtype, terms=0.0):
    """Hold against float64: by the rounding of each value, and of the `terms` behind it. Returns the largest share of what is allowed."""
    got, wanted = got.detach().cpu().double(), wanted.detach()
    if got.shape != wanted.shape:
        raise Failed(f"{what} has the shape {tuple(got.shape)}, not {tuple(wanted.shape)}")
    if not wanted.numel():
        return 0.0
    name = str(dtype).removeprefix("torch.")
    largest = max(wanted.abs().max().item(), terms)
    sums = 1e-13 if name == "float64" else SUMS
    # Below the normal numbers of float16 the steps do not get smaller.
    allowed = ALLOWED * HALF_ULP[name] * wanted.abs() + sums * largest + (2.0**-24 if name == "float16" else 1e-300)
    share = ((got - wanted).abs() / allowed).max().item()
    if not share <= 1.0:
        worst = ((got - wanted).abs() / allowed).argmax()
        raise Failed(
            f"{what}: {got.flatten()[worst].item():.9g} instead of {wanted.flatten()[worst].item():.9g} at {worst.item()} of"
            f" {tuple(wanted.shape)}, {share:.2g} times what {name} allows"
        )
    return share


def check_case(what, ours, theirs, x, vector, grad):
    """Value and gradients of one input against PyTorch's in float64 on the CPU."""
    x, vector = x.detach().requires_grad_(), vector.detach().requires_grad_()
    y = ours(x, vector)
    if y.dtype != x.dtype or y.device != x.device:
        raise Failed(f"{what}: gives {y.dtype} on {y.device}")
    y.backward(grad)
    exact_x, exact_vector = (value.detach().cpu().double().requires_grad_() for value in (x, vector))
    wanted = theirs(exact_x, exact_vector)
    wanted.backward(grad.cpu().double())
    of_value, of_gradient, of_sums = terms(what, exact_x.detach(), exact_vector.detach(), grad.cpu().double())
    return max(
        compare(f"{what}, value", y, wanted, x.dtype, of_value),
        compare(f"{what}, gradient of x", x.grad, exact_x.grad, x.dtype, of_gradient),
        compare(f"{what}, gradient of the vector", vector.grad, exact_vector.grad, x.dtype, of_sums),
    )


def terms(what, x, vector, grad):
    """What values and both gradients are sums and differences of, at most: they themselves can be next to nothing."""
    if not x.numel():
        return 0.0, 0.0, 0.0
    if what.startswith("rms_norm"):
        slope = (vector / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()).abs()
        return 0.0, (grad * slope).abs().max().item(), 0.0
    slope = 2 * grad.abs().max().item()
    return (x + vector).abs().max().item(), slope, slope


def layouts(x):
    """The same values otherwise laid out: rows apart, transposed, columns apart, one value for all rows, not at 16 bytes."""
    import torch

    wide = torch.cat([x, x], -1)
    yield "rows apart", wide[..., : x.shape[-1]]
    yield "columns apart", torch.stack([x, x], -1)[..., 0]
    yield "not at 16 bytes", torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape)
    if x.dim() > 1:
        yield "transposed", x.transpose(0, -1).contiguous().transpose(0, -1)
        yield "one row for all", x[:1].expand(x.shape)


def check_values(name, device):
    """All shapes, layouts and dtypes; the largest share of the allowed error, by dtype."""
    import torch

    generator = torch.Generator().manual_seed(1)
    worst = {}
    for approximate, ours, theirs in references()[name]:
        for dtype in dtypes(device):
            for shape in (*SHAPES, *MANY_ROWS):
                if device == "cpu" and shape in MANY_ROWS[:2]:
                    continue
                x = (torch.randn(shape, generator=generator) * 2).to(dtype).to(device)
                vector = torch.randn(shape[-1], generator=generator).to(dtype).to(device)
                grad = torch.randn(shape, generator=generator).to(dtype).to(device)
                what = f"{name} {approximate} {dtype} {tuple(shape)}"
                cases = [("dense", x, grad)]
                if shape in ((2, 3, 100), (64, 128), (9, 4096)):
                    cases += [(layout, other, grad) for layout, other in layouts(x)]
                    cases += [(f"gradient {layout}", x, other) for layout, other in layouts(grad)]
                for layout, input_, gradient in cases:
                    share = check_case(f"{what}, {layout}", ours, theirs, input_, vector, gradient)
                    worst[dtype] = max(worst.get(dtype, 0.0), share)
    return worst


def check_slopes(name, device):
    """Gradients against differences of values, in whatever precision the device has: no formula of ours is believed."""
    import torch

    generator = torch.Generator().manual_seed(2)
    dtype = torch.float64 if device == "cpu" else torch.float32
    step, within = (1e-6, 1e-7) if device == "cpu" else (3e-3, 1e-3)
    for approximate, ours, _ in references()[name]:
        for shape in ((4, 6), (3, 64)):
            x, v, direction, other, weights = (
                torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)
                for size in (shape, shape[-1:], shape, shape[-1:], shape)
            )

            def value(t):
                return (ours(x + t * direction, v + t * other).double() * weights.double()).sum().item()  # noqa: B023

            with torch.enable_grad():
                leaves = [x.clone().requires_grad_(), v.clone().requires_grad_()]
                dx, dv = torch.autograd.grad(ours(*leaves), leaves, weights)
            slope = ((dx * direction).double().sum() + (dv * other).double().sum()).item()
            measured = (value(step) - value(-step)) / (2 * step)
            if not abs(slope - measured) <= within * max(1.0, abs(measured)):
                raise Failed(
                    f"{name} {approximate} on {device}: the slope is {measured:.9g}, autograd says {slope:.9g}"
                )


def check_registration(name, device):
    """Schema, fake kernel and autograd are what torch.compile and torch.export believe: torch's own check of operators."""
    import torch

    ours = torch.ops.arr_kernels
    x, grad = (torch.randn(3, 5, 16, device=device) for _ in range(2))
    vector = torch.randn(16, device=device)
    inputs = (x.requires_grad_(), vector.requires_grad_())
    if name == "rms_norm":
        torch.library.opcheck(ours.rms_norm.default, (*inputs, 1e-6))
        rstd = ours.rms_norm(*inputs)[1].detach()
        arguments = (grad, x.detach(), vector.detach(), rstd)
        torch.library.opcheck(ours.rms_norm_backward.default, arguments)
    else:
        torch.library.opcheck(ours.bias_gelu.default, (*inputs, "tanh"))
        torch.library.opcheck(ours.bias_gelu_backward.default, (grad, x.detach(), vector.detach(), "tanh"))


def check_export(name):
    """torch.export traces it, with a batch of any size, and the graph has the operator."""
    import torch

    _, ours, _ = references()[name][-1]

    class Module(torch.nn.Module):
        def forward(self, x, vector):
            return ours(x, vector)

    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(Module(), (torch.randn(4, 8), torch.randn(8)), dynamic_shapes=({0: batch}, None))
    if f"arr_kernels.{name}" not in str(program.graph):
        raise Failed(f"{name} is not in the exported graph")
    x, vector = torch.randn(7, 8), torch.randn(8)
    if not torch.equal(program.module()(x, vector), ours(x, vector)):
        raise Failed(f"the exported {name} gives other values")


def check_refusals():
    """What cannot be right is refused, with words that name the argument."""
    import arr_kernels
    import torch

    x = torch.randn(2, 8)
    cases = [
        (lambda: arr_kernels.rms_norm(x, torch.randn(7)), "weight must have the shape"),
        (lambda: arr_kernels.rms_norm(x, torch.randn(8).half()), "weight is Half, but x is Float"),
        (lambda: arr_kernels.bias_gelu(x, torch.randn(8), "sigmoid"), "approximate must be"),
        (lambda: arr_kernels.bias_gelu(torch.randn(2, 0), torch.randn(0)), "last dimension that is not empty"),
    ]
    for call, words in cases:
        try:
            call()
        except RuntimeError as error:
            if words not in str(error):
                raise Failed(f"instead of '{words}' it says '{error}'") from None
        else:
            raise Failed(f"nothing is said of '{words}'")


@check
def operators(expected, _params):
    """All of each, on every device that is here."""
    known = references()
    unknown = [name for name in expected if name not in known]
    if unknown:
        raise Failed(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    check_refusals()
    told = []
    for device in devices():
        for name in expected:
            check_registration(name, device)
            check_slopes(name, device)
            shares = check_values(name, device)
            shown = ", ".join(f"{str(dtype).removeprefix('torch.')} {share:.2f}" for dtype, share in shares.items())
            told.append(f"{name} on {device} ({shown} of the allowed error)")
    for name in expected:
        check_export(name)
    return "; ".join(told)


main(options=["archs"])
