"""From a Program to a file.

    export      a module or function as an ONNX model; `training`: together with its loss and optimizer
    writer      names, nodes and initialisers as they come to be
    emit, layers    what an op, and a layer that ONNX has as one operator, is in ONNX
    tidy, saving    nodes that are one operator; the check, the file and its second one for large weights
"""
