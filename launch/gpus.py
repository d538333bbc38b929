"""GPUs that a run can be planned for."""

from pydantic import Field

from data_pipeline.base.recipes import Recipe


class Gpu(Recipe):
    """Figures of one GPU and of what connects it."""

    memory_gb: float = Field(gt=0)
    """Memory, in units of 10^9 bytes."""
    peak_tflops: float = Field(gt=0)
    """Dense matrix products in 16 bits, 10^12 operations a second."""
    efficiency: float = Field(gt=0, le=1)
    """Share of the peak that training reaches in its matrix products."""
    bandwidth_gb_s: float = Field(gt=0)
    """Of its memory."""
    link_gb_s: float = Field(gt=0)
    """Between the GPUs of a node, in one direction."""


# Memory, peaks, bandwidths: NVIDIA's data sheets (V100 SXM2 32 GB, A100 SXM 80 GB, H100 SXM, H200
# SXM); links are half of the sheet's NVLink figure, which counts both directions.
# Efficiency: NVIDIA's Paddle BERT-large reaches 53.6% on an A100 (DeepLearningExamples); taken for
# later GPUs too. V100: 27%, what the published run reached by its shorter time (2 days on 8 GPUs,
# 400,000 steps of 1,024 sequences, 113 GFLOP each with all 24 layers of its teacher).
GPUS: dict[str, Gpu] = {
    "v100": Gpu(memory_gb=32, peak_tflops=125, efficiency=0.27, bandwidth_gb_s=900, link_gb_s=150),
    "a100": Gpu(
        memory_gb=80, peak_tflops=312, efficiency=0.536, bandwidth_gb_s=2039, link_gb_s=300
    ),
    "h100": Gpu(
        memory_gb=80, peak_tflops=989, efficiency=0.536, bandwidth_gb_s=3350, link_gb_s=450
    ),
    "h200": Gpu(
        memory_gb=141, peak_tflops=989, efficiency=0.536, bandwidth_gb_s=4800, link_gb_s=450
    ),
}
