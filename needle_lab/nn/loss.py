"""Losses and distances as layers: each is the function of that name, with its options as configuration.

A weight of the classes is a buffer: it is saved and moved with the layer.
"""

from __future__ import annotations

from . import functional as F
from .layer import layer

MSELoss = layer("MSELoss", F.mse_loss, 2)
L1Loss = layer("L1Loss", F.l1_loss, 2)
SmoothL1Loss = layer("SmoothL1Loss", F.smooth_l1_loss, 2)
HuberLoss = layer("HuberLoss", F.huber_loss, 2)
BCELoss = layer("BCELoss", F.binary_cross_entropy, 2, later="weight")
BCEWithLogitsLoss = layer("BCEWithLogitsLoss", F.binary_cross_entropy_with_logits, 2, later="weight pos_weight")
NLLLoss = layer("NLLLoss", F.nll_loss, 2)
CrossEntropyLoss = layer("CrossEntropyLoss", F.cross_entropy, 2)
KLDivLoss = layer("KLDivLoss", F.kl_div, 2)
PoissonNLLLoss = layer("PoissonNLLLoss", F.poisson_nll_loss, 2)
GaussianNLLLoss = layer("GaussianNLLLoss", F.gaussian_nll_loss, 3, keyword_only=True)
CTCLoss = layer("CTCLoss", F.ctc_loss, 4)
HingeEmbeddingLoss = layer("HingeEmbeddingLoss", F.hinge_embedding_loss, 2)
MarginRankingLoss = layer("MarginRankingLoss", F.margin_ranking_loss, 3)
SoftMarginLoss = layer("SoftMarginLoss", F.soft_margin_loss, 2)
MultiMarginLoss = layer("MultiMarginLoss", F.multi_margin_loss, 2)
MultiLabelMarginLoss = layer("MultiLabelMarginLoss", F.multilabel_margin_loss, 2)
MultiLabelSoftMarginLoss = layer("MultiLabelSoftMarginLoss", F.multilabel_soft_margin_loss, 2)
CosineEmbeddingLoss = layer("CosineEmbeddingLoss", F.cosine_embedding_loss, 3)
TripletMarginLoss = layer("TripletMarginLoss", F.triplet_margin_loss, 3)
TripletMarginWithDistanceLoss = layer("TripletMarginWithDistanceLoss", F.triplet_margin_with_distance_loss, 3,
                                      keyword_only=True)

CosineSimilarity = layer("CosineSimilarity", F.cosine_similarity, 2)
PairwiseDistance = layer("PairwiseDistance", F.pairwise_distance, 2)
