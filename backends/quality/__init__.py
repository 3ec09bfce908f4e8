"""Features, distances, intervals.

distances         The Fréchet and the kernel distance between features of images and a reference.
extractors        Feature extractors: images become the vectors whose distributions the fidelity metrics compare.
floors            The floor of a distance: what it is between real images and real images at the same count.
guards/           Whether images are broken, whatever a distance says of them.
intervals         How sure a distance is.
names             The names of extractors and of their metrics, which costs no torch to know.
pretrained/       Extractors whose networks and weights come from elsewhere.
reference_cache   Features of real images, kept in a folder.
reference_images  Real images from a folder or an array, made the size that the network draws.
references        What generated images are compared with: the features of real images, or what is left of them.
sliced            The sliced Wasserstein distance between features of images and a reference, MIND.
user_metric       A metric of the user's own.
"""
