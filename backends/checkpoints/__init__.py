"""Opening files of weights without running code.

containers   Opening files of weights without running code.
files        Paths that come from files and people, of which a file system may take none.
folders      Folders of diffusers, known by their JSON: a pipeline's index, or the configuration of one model.
inspect      What a checkpoint holds and what it is taken for, from names and shapes alone: no tensor's data is read.
recognition  Which network a set of tensor names belongs to, and what foreign weights are called.
weights      Choosing one set of weights in a file, fitting it into a module, and its digest.
"""
