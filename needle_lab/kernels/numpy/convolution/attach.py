"""The three sums of a convolution by the strategy that suits their shapes; see `choose.py`."""

from ....core.tiers import kernel
from ....ops.convolutions import check, convolution, convolution_input, convolution_weight, no_window
from ....ops.reduce import added
from ....ops.windows import output_size
from .choose import choose


@kernel(convolution, "numpy")
def chosen_convolution(x, weight, bias=None, *, stride, pads, dilation, groups):
    check(x.shape, weight.shape, bias, groups)
    least = min(output_size(x.shape[2:], weight.shape[2:], stride, pads, dilation), default=1)
    if least < 0 or (least < 1 and min(x.shape[2:], default=1) > 0):
        raise no_window(x.shape, weight.shape, pads, dilation)
    way = choose(x.shape, weight.shape, stride, pads, dilation, groups, x.dtype)
    y = way.run(x, way.prepare(weight))
    if bias is not None:
        y += bias.reshape(-1, *(1,) * (x.ndim - 2))
    return y


@kernel(convolution_input, "numpy")
def chosen_convolution_input(grad, weight, *, size, stride, pads, dilation, groups):
    shape = (grad.shape[0], weight.shape[1] * groups, *size)
    way = choose(shape, weight.shape, stride, pads, dilation, groups, grad.dtype, what="input")
    if grad.shape != way.strategy.geometry.y:
        return NotImplemented
    return way.run(grad, way.prepare(weight))


@kernel(convolution_weight, "numpy")
def chosen_convolution_weight(x, grad, *, kernel, stride, pads, dilation, groups):
    shape = (grad.shape[1], x.shape[1] // groups, *kernel)
    way = choose(x.shape, shape, stride, pads, dilation, groups, x.dtype, what="weight")
    if grad.shape != way.strategy.geometry.y:
        return NotImplemented
    return way.run(x, grad)


@kernel(convolution.gradient, "numpy")
def convolution_gradient(wants, g, x, weight, **geometry):
    """The same three gradients as the rules', without a tensor and an op for each."""
    return (convolution_input.compute(g, weight, size=x.shape[2:], **geometry) if wants[0] else None,
            convolution_weight.compute(x, g, kernel=weight.shape[2:], **geometry) if wants[1] else None,
            added(g, (0, *range(2, g.ndim))) if len(wants) > 2 and wants[2] else None)
