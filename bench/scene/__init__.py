"""Site video with known identities, composed from photographs: `python -m bench.scene --people DIR`.

It is not footage. A photograph's head and shoulders walk through a drawn hall by the arithmetic of a camera that stands
there: sizes, speeds, motion blur and occlusion follow from metres and seconds. What is real are the faces, and who they
are: that is what footage seldom tells.
"""
