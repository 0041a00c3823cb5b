"""How many replicas, how much memory, which nodes, and what it costs; and a day of it through autoscaler and Karpenter.

    costs.py → demand.py → plan.py ← queueing.py      what the bench measured → seconds a stage → replicas
    memory.py, nodes.py → packing.py                  bytes a pod → nodes and their price
    autoscaler.py, nodes_pool.py, sampled_queue.py → simulation.py → plot.py

Nothing here imports torch or FAISS: sizes are held to theirs by tests. docs/capacity.md has formulas and assumptions.
"""
