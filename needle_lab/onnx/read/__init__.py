"""From a file to an OnnxModule.

    reader, check    a checked ModelProto; protobuf messages as Python values
    importer         nodes in order, those with weights as layers, in a tree of the author's names (naming, ranks, joins)
    steps, model     the graph as it runs, and the module around it
    report           what is in a file, without running it
"""
