"""Training networks to leave early: the data, the loss at an exit, and the one loop that everything is trained with.

batches  The rows, noises, times and labels of each step, a function of the seed and the step alone.
data     Images and labels from a folder, an .npz or IDX files, encoded once into what the network samples.
exits    Which call each sample is trained on: by a schedule and its time, or at a random depth.
loop     The training loop, on accelerate: an optimizer, a moving average, and a state that is gone on from.
losses   The denoising loss at the exits, with weights over time.
names    What weightings and precisions are called.
process  The times that a network is trained at, with signal, noise and weight of each.
state    Files of a training, written whole or not at all.
"""
