"""What PyTorch has and needle_lab does not, on purpose, and what to use instead: the table behind the errors."""

from __future__ import annotations

import fnmatch
import functools

from .errors import NotPartError

_COMPLEX = "numbers are real here; ndl.fourier takes complex ones as a last axis of length 2"
_DENSE = "tensors are dense; a mask, or index_select and index_add, do what most programs need"
_PLUMBING = "PyTorch's own plumbing, which its public functions call"
_COPIES = "the copying twin of a view; call .clone() on the view"
_SHAPES = "a shape does not change in place; x = x.reshape(...) and its kin make another view"
_LAPACK = "a step inside of LAPACK's routines; ndl.linalg has the factorisations and solve"
_WRITES = "write into a copy: ndl.index_put(x, value, index=...), or y = x.clone(); y[...] = value"
_RANDOM = "seldom drawn from; transform ndl.rand(...) by the inverse of the distribution"
_MEMORY = "NumPy owns the memory: x.numpy() gives its array, which has strides, ctypes and data"

_QUANTIZED = "numbers are bools, integers and floats; quantised ONNX files run through ndl.onnx.load"
_DTYPE = "ndl.tensor(data, dtype=...) and x.to(dtype) say the dtype"
_DEVICES = "there are the CPU, NVIDIA GPUs and Triton's interpreter: x.device, x.is_cuda"
_DETERMINISTIC = "results are deterministic by default"

# Names as PyTorch has them, "Tensor.x" for methods, "_*" for all that begins so; a dot at the end stands for a whole room.
REFUSED: dict[str, str] = {
    "sparse.": _DENSE, "to_sparse*": _DENSE, "Tensor.is_sparse": _DENSE, "Tensor.coalesce": _DENSE,
    "Tensor.to_dense": _DENSE,
    "masked.": "masks are bool tensors beside the values: ndl.where, x.masked_fill and x[mask]",
    "autograd.Function": "a function with a rule of its own is an @ndl.op, with @my_op.gradient",
    "autograd.Variable": "a tensor is one: ndl.tensor(data, requires_grad=True)",
    "autograd.": "ndl.grad, jacobian, hessian, vjp, jvp, and hooks of tensors and modules",
    "func.": "ndl.vmap, ndl.jacobian, ndl.hessian, ndl.vjp and ndl.jvp stand at the top",
    "utils.": "torch.utils.data is needle_lab.data, and checkpoint is ndl.checkpoint",
    "set_default_device": "a device is a value, never a global; give device=, or model.to(device)",
    "jit.": "a model as data is ndl.program.trace(model, x), which prints, runs and goes out as ONNX",
    "compile": "a model as a plan for inference is ndl.plan(model, x); kernels are chosen by ndl.use_kernels",
    "save": "ndl.save_state_dict(model, path) and ndl.save_checkpoint(path, model=, ...); nothing is pickled",
    "load":
        "ndl.load_state_dict(model, path), ndl.load_checkpoint(path, ...) and ndl.load_tensors(path); nothing is unpickled",
    "set_default_dtype": "float32 is the default everywhere; pass dtype=, or model.to(ndl.float64)",
    "set_printoptions": "values print as NumPy's do: numpy.set_printoptions",
    "amp.": "float16 and bfloat16 tensors compute in float32 already",
    "autocast": "float16 and bfloat16 compute in float32 already",
    "backends.": "results are deterministic; ndl.use_kernels and ndl.set_num_threads choose how they are computed",
    "distributions.": "ndl.rand, randn, bernoulli, multinomial draw; the losses have the log-likelihoods",
    "fft.": _COMPLEX, "stft": _COMPLEX, "istft": _COMPLEX, "complex": _COMPLEX, "polar": _COMPLEX, "real": _COMPLEX,
    "imag": _COMPLEX, "angle": _COMPLEX, "conj*": _COMPLEX, "resolve_*": _COMPLEX, "view_as_real": _COMPLEX,
    "view_as_complex": _COMPLEX, "isreal": _COMPLEX, "is_complex": _COMPLEX, "sgn*": _COMPLEX, "cdouble": _COMPLEX,
    "cfloat": _COMPLEX, "chalf": _COMPLEX, "complex*": _COMPLEX,
    "signal.": "a window is a line of NumPy: ndl.from_numpy(numpy.hanning(n))",
    "special.":
        "those that losses and layers use stand at the top: ndl.erf, erfinv, lgamma, digamma, xlogy, logit, ndtr, ...",
    "i0*": "a Bessel function; scipy.special.i0(x.numpy()) has it",
    "igamma*": "seldom used; scipy.special.gammainc has it",
    "nextafter": "neighbours of floats are numpy.nextafter(x.numpy(), y)",
    "frexp": "numpy.frexp(x.numpy()) has it",
    "gradient": "slopes of samples are numpy.gradient(x.numpy()), or ndl.diff; slopes of functions are ndl.grad",
    "hash_tensor": "for a checksum, hashlib over x.numpy().tobytes()",
    "histogramdd": "numpy.histogramdd(x.numpy()) has it",
    "index_reduce*": "scatter_reduce does this, with an expanded index",
    "nonzero_static": "nonzero() has the length that it has",
    "lu*": _LAPACK, "geqrf": _LAPACK, "ormqr": _LAPACK, "orgqr": _LAPACK, "cholesky_inverse": _LAPACK,
    "cholesky_solve": _LAPACK, "triangular_solve": _LAPACK, "svd_lowrank": _LAPACK, "pca_lowrank": _LAPACK,
    "svd": "ndl.linalg.svd(x) gives U, S and Vh (torch.svd gave V)", "qr": "ndl.linalg.qr(x) gives Q and R",
    "linalg.lu*": _LAPACK, "linalg.ldl*": _LAPACK, "linalg.householder_product": _LAPACK, "linalg.eig*": _COMPLEX,
    "linalg.matrix_exp": _LAPACK, "matrix_exp": _LAPACK, "*_copy": _COPIES, "*_scatter": _WRITES,
    "as_strided*": "views come from slices, transpose, expand, unfold and diagonal",
    "slice": "a slice is x[a:b], along another axis x.narrow(dim, start, length)",
    "*resize_": _SHAPES, "*resize_as_": _SHAPES, "Tensor.squeeze_": _SHAPES, "Tensor.unsqueeze_": _SHAPES,
    "Tensor.t_": _SHAPES, "Tensor.transpose_": _SHAPES, "Tensor.swap*_": _SHAPES, "Tensor.set_": _SHAPES,
    "Tensor.data_ptr": _MEMORY, "Tensor.storage*": _MEMORY, "Tensor.untyped_storage": _MEMORY, "Tensor.stride": _MEMORY,
    "Tensor.share_memory_": _MEMORY, "Tensor.pin_memory": _MEMORY,
    "Tensor.apply_": "a Python function of each value is slow; write it in ops",
    "Tensor.map_": "write it in ops",
    "cauchy*": _RANDOM, "geometric*": _RANDOM, "log_normal*": _RANDOM, "exponential": _RANDOM,
    "empty_permuted": "memory has the order of the axes; permute a tensor",
    "*empty_strided": "memory has the order of the axes",
    "[A-Z]*Tensor": _DTYPE, "*Storage": _MEMORY,
    "result_type": "the dtype of a result is (a + b).dtype",
    "set_default_tensor_type": _DTYPE, "quant*": _QUANTIZED, "fake_quantize*": _QUANTIZED, "dequantize": _QUANTIZED,
    "empty_quantized": _QUANTIZED, "q_*": _QUANTIZED, "qscheme": _QUANTIZED, "int_repr": _QUANTIZED,
    "fused_moving_avg_obs_fake_quant": _QUANTIZED, "choose_qparams_optimized": _QUANTIZED, "Tensor.is_*": _DEVICES,
    "Tensor.ipu": _DEVICES, "Tensor.xpu": _DEVICES, "Tensor.mtia": _DEVICES, "get_device*": _DEVICES,
    "Tensor.to_mkldnn": _DEVICES, "sparse_*": _DENSE, "*spmm": _DENSE, "smm": _DENSE, "[dh]smm": _DENSE, "sspaddmm": _DENSE,
    "saddmm": _DENSE, "*_indices": _DENSE, "Tensor.indices": _DENSE, "Tensor.values": _DENSE, "Tensor.dense_dim": _DENSE,
    "resize_as_sparse_": _DENSE, "Tensor.to_padded_tensor": _DENSE, "Tensor.resize*": _SHAPES, "Tensor.new": _DTYPE,
    "Tensor.const_data_ptr": _MEMORY, "Tensor.dim_order": _MEMORY, "layout": _MEMORY, "Tensor.record_stream": _MEMORY,
    "frombuffer": "ndl.from_numpy(numpy.frombuffer(data, dtype))",
    "from_file": "ndl.from_numpy(numpy.memmap(path, dtype))",
    "Tensor.map2_": "write it in ops",
    "nextafter_": "neighbours of floats are numpy.nextafter(x.numpy(), y)",
    "Tensor.reinforce": "a policy's gradient is that of (-log_prob * reward).sum()",
    "Tensor.volatile": "ndl.no_grad()",
    "Tensor.register_post_accumulate_grad_hook": "x.register_hook sees each gradient; .grad is read after backward",
    "Tensor.retains_grad": "x.retain_grad() keeps it in x.grad",
    "Tensor.grad_dtype": "a gradient has its tensor's dtype",
    "Tensor.as_subclass": "ops answer Tensor",
    "Tensor.module_load": "model.load_state_dict(...)",
    "Tensor.name": "names belong to a module's entries, model.named_parameters()",
    "Tensor.output_nr": "x.output_index",
    "*slice_inverse": _PLUMBING,
    "eig": "of symmetric matrices, ndl.linalg.eigh; others have complex values",
    "symeig": "ndl.linalg.eigh",
    "lobpcg": "ndl.linalg.eigh",
    "seed": "ndl.manual_seed(n) makes a program repeatable",
    "initial_seed": "ndl.get_rng_state() has the state",
    "use_deterministic_algorithms": _DETERMINISTIC, "*deterministic*": _DETERMINISTIC,
    "*_float32_matmul_precision": "float32 is computed as float32",
    "set_flush_denormal": "subnormal numbers are kept",
    "range": "ndl.arange, which leaves out the end",
    "vander": "x.unsqueeze(1) ** ndl.arange(n)",
    "poisson": _RANDOM,
    "binomial": "ndl.bernoulli(p, (n, *shape)).sum(0)",
    "export": "ndl.onnx.export(model, inputs, path)",
    "onnx.": "ndl.onnx",
    "distributed.": "one process: ndl.set_num_threads shares work among threads",
    "multiprocessing.": "ndl.data.DataLoader(num_workers=...) has processes; Python's multiprocessing is enough",
    "hub.": "files of weights load by ndl.load_tensors(path), models by ndl.onnx.load(path)",
    "fx.": "ndl.program.trace(model, x)",
    "profiler.": "ndl.analysis and notebook 06 measure layers",
    "*_window": "a window is a line of NumPy: ndl.from_numpy(numpy.hanning(n))",
    "Sym*": _PLUMBING, "sym_*": _PLUMBING, "*autocast*": _PLUMBING, "miopen_*": _PLUMBING, "*mkldnn_*": _PLUMBING,
    "cudnn_*": _PLUMBING, "fbgemm_*": _PLUMBING, "batch_norm_*": _PLUMBING, "*_generator": _PLUMBING, "cond": _PLUMBING,
    "is_storage": _PLUMBING,
    "typename": "type(x).__name__",
    "*warn_always*": _PLUMBING, "is_*_enabled": _PLUMBING, "set_*_enabled": _PLUMBING,
    "*_num_interop_threads": "ndl.set_num_threads",
    "GradScaler": _PLUMBING, "is_*": _DEVICES, "clear_*": _PLUMBING, "has_*": _PLUMBING, "import_ir*": _PLUMBING,
    "parse_*": _PLUMBING, "merge_*": _PLUMBING, "unify_*": _PLUMBING, "init_num_threads": _PLUMBING, "fork": _PLUMBING,
    "wait": _PLUMBING, "affine_grid_generator": _PLUMBING, "grid_sampler": _PLUMBING, "convolution": _PLUMBING,
    "embedding_renorm_": _PLUMBING, "norm_except_dim": _PLUMBING, "max_pool1d_with_indices": _PLUMBING,
    "rnn_*": "the layers are nn.RNN and nn.RNNCell",
    "gru*": "the layers are nn.GRU and nn.GRUCell",
    "lstm*": "the layers are nn.LSTM and nn.LSTMCell",
    "frobenius_norm": "ndl.norm(x)",
    "nuclear_norm": "ndl.norm(x, 'nuc')",
    "classproperty": _PLUMBING, "compiled_with*": _PLUMBING, "get_file_path": _PLUMBING, "prepare_*": _PLUMBING,
    "profiler_*": _PLUMBING, "conv_tbc": _PLUMBING, "while_loop": _PLUMBING,
    "*_dlpack": "ndl.from_numpy(numpy.from_dlpack(x)), and numpy.from_dlpack(x.numpy()) the other way",
    "get_default_device": "a tensor is on the CPU unless device= says otherwise",
    "segment_reduce": "scatter_reduce does this, with an index of segments",
    "nn.functional.*torch_function*": _PLUMBING, "nn.functional.*_mm": _PLUMBING, "nn.functional.conv_tbc": _PLUMBING,
    "nn.functional.native_*": _PLUMBING, "nn.functional.assert_int_or_pair": _PLUMBING,
    "nn.functional.boolean_dispatch": _PLUMBING, "nn.*Base": _PLUMBING, "nn.Container": _PLUMBING,
    "nn.Uninitialized*": "a lazy layer's parameter is made at the first call",
    "nn.NLLLoss2d": "nn.NLLLoss",
    "nn.CrossMapLRN2d": "nn.LocalResponseNorm",
    "nn.LinearCrossEntropyOptions": _PLUMBING, "jiterator*": _PLUMBING, "native_*": _PLUMBING, "unsafe_*": _PLUMBING,
    "torch.": _PLUMBING, "_*": _PLUMBING, "ops.": _PLUMBING, "constant_pad_nd": _PLUMBING, "grid_sampler_*": _PLUMBING,
    "max_pool2d_with_indices_backward": _PLUMBING,
    "nn.functional.fractional_max_pool*": "windows of random sizes are hardly used; use adaptive max pooling",
    "nn.FractionalMaxPool*": "windows of random sizes are hardly used; use adaptive max pooling",
    "nn.functional.linear_cross_entropy*": "cross_entropy(linear(x, weight), target)",
    "nn.LinearCrossEntropyLoss": "cross_entropy(linear(x, weight), target)",
    "nn.AdaptiveLogSoftmaxWithLoss": "a softmax for very large vocabularies on small machines; use nn.CrossEntropyLoss",
    "nn.functional.adaptive_log_softmax_with_loss":
        "a softmax for very large vocabularies on small machines; use nn.CrossEntropyLoss",
    "nn.DataParallel": "one process computes on one device", "nn.SyncBatchNorm": "one process computes on one device",
    "nn.parallel.": "one process computes on one device",
    "lstsq": "ndl.linalg.lstsq(a, b)", "solve": "ndl.linalg.solve(a, b)", "matrix_rank": "ndl.linalg.matrix_rank(a)",
    "optim.SparseAdam": "gradients are dense; use Adam",
    "optim.swa_utils.": "a mean of weights is a line in the loop: for p, m in zip(...): m.lerp_(p, 0.001)",
    "nn.utils.prune.": "a mask is a buffer: weight * mask in forward",
    "nn.utils.parametrize.": "nn.utils.weight_norm shows how",
    "nn.functional.multi_head_attention_forward": "use nn.MultiheadAttention, or F.scaled_dot_product_attention",
    "*[a-z0-9]_": "results are new, x = f(x); what changes in place is a method of Tensor, x.add_(y)",
}


@functools.lru_cache(1024)                        # who asks hasattr(tensor, name) asks it of many tensors
def reason(name: str) -> str | None:
    """Why the thing that PyTorch calls `name` is not part of needle_lab; None for a name that the table does not have.

    A method is also looked for by the name of the function that it is.
    """
    if name.rpartition(".")[2].startswith("__"):                  # Python's protocols ask for these, often
        return None
    wanted = [name, f"{name}."] + [name.removeprefix("Tensor.")] * name.startswith("Tensor.")
    patterns = ((f"{key}*" if key.endswith(".") else key, why) for key, why in REFUSED.items())
    return next((why for pattern, why in patterns if any(fnmatch.fnmatchcase(n, pattern) for n in wanted)), None)


def missing(place: str, name: str) -> AttributeError:
    """The error for a name that a module or a tensor does not have.  place: "nn", "Tensor", ..., or "" for needle_lab."""
    full = f"{place}.{name}" if place else name
    said = reason(full)
    if said is None:
        return AttributeError(f"'{place}' has no attribute {name!r}" if place else
                              f"module 'needle_lab' has no attribute {name!r}")
    return NotPartError(f"ndl.{full}: not part of needle_lab; {said}")
