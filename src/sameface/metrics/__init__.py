"""How wrong an answer is: pure functions of arrays, grouped by what they measure.

`landmarks` (NME, GTE, CED …), `pose` (angles and their errors), `scans` (meshes against scans, mm), `verification`
(same person or not). Each states its unit, what it is invariant to, and whose convention it follows.
"""
