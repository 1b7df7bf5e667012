"""What two or more of edge, recognize, enroll, train and query need: domain, ports, vision, matching, adapters."""

__version__ = "0.1.0"
