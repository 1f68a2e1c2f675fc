"""The chapters, one module or folder for each notebook of the same name: its arms, its tables, its figures.

A chapter with tables or figures of its own is a folder; its `__init__` has the arms alone, since every plan of runs
imports those of all chapters. What several chapters ask is in claims, controls, detectors, findings, plan, power_plan,
registry, taxonomy, wording.
"""

#: In order, by the names of their notebooks. The module of 03_blind_teacher is `kdlib.chapters.blind_teacher`.
CHAPTERS = (
    "00_tour", "01_data_and_teachers", "02_joint_data_augmentation", "03_blind_teacher", "04_augmented_teacher",
    "05_proportion", "06_few_shot", "07_compatibility", "08_cosine_confidence", "09_ccd_versus_hsakd", "10_imagenet",
    "11_good_views", "12_verdicts", "13_your_own", "14_view_bank", "15_benchmark", "16_sizing", "17_another_student",
    "18_budget", "19_rivals", "20_which_images", "21_resolution", "22_retrieval", "23_thresholds",
    "24_detection",
    "25_translation", "26_oriented",
    "27_masked",
    "28_one_picture",
)  # fmt: skip
