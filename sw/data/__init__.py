"""Inputs: images, event recordings and packs from files that nobody vouches for.

`datasets.load` is the way in. `arrays` and `event_files` read single files, `event_sets` and
`cifar` folders in their owners' layouts, `image_fit` and `events` bring them to a network's size.
"""
