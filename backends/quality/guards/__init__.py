"""Whether images are broken, whatever a distance says of them.

checks   Figures that tell broken images from good ones where a distance may not: a guard objects by them.
nothing  Images that show nothing: the other end of the scale on which a schedule's loss is stated.
pixels   Plain statistics of the pixels of one image, which tell static, blur and faded colours from images.
"""
