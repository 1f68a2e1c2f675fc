"""Masked views: a network of convolutions learns, from the cells that it is shown, what a transformer makes of others.

Inspired by Big2Small (Wang et al., 2024); the convolutions on kept cells alone are those of SparK (Tian et al., 2023).
`teaching` is the task of the teacher, `training` that of its student.
"""
