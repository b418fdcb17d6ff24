"""One language model on several machines, through MLX's distributed back end.

The lane starts one process a rank, on this machine or by ssh, and speaks with each over its standard streams. Every
rank holds a share of every layer and runs the same engine with the same requests in the same order, so that all of
them arrive at the same tokens; what the first one says goes back to the lane.
"""
