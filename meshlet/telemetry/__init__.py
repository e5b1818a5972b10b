"""What meshlet tells about the traffic and about itself: metrics, the access log, its own log.

Recording costs O(1) on the path of a request; formatting, encoding and writing happen off it.
"""
