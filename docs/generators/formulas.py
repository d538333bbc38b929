"""`python -m docs.generators.formulas`: the formulas of docs/losses.md as pictures.

Matplotlib's mathtext draws them, so neither TeX nor a script in the reader's browser is needed.
"""

import io
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "formulas"
FORMULAS = {
    "relation": r"$A(X) = \mathrm{softmax}\left(\dfrac{X X^{\top}}{\sqrt{d_r}}\right),"
    r"\qquad X \in \mathbb{R}^{N \times d_r}$",
    "row": r"$D_i(X) = \sum_{j=1}^{N} A(X^{T})_{ij} \, \log"
    r"\dfrac{A(X^{T})_{ij}}{A(X^{S})_{ij}}$",
    "token": r"$\mathcal{L}_{\mathrm{token}}(X) = \dfrac{1}{R \, M} \sum_{r=1}^{R} \;"
    r"\sum_{g=1}^{G} \; \sum_{i=1}^{\ell_g} D_i(X_{g,:,r})$",
    "sample": r"$\mathcal{L}_{\mathrm{sample}}(X) = \dfrac{1}{R \, M} \sum_{r=1}^{R} \;"
    r"\sum_{i=1}^{L} \; \sum_{g:\,\ell_g \geq i} D_g(X_{:,i,r})$",
    "head": r"$\mathcal{L}_{\mathrm{head}}(X) = \dfrac{1}{R \, M} \sum_{g=1}^{G} \;"
    r"\sum_{i=1}^{\ell_g} \; \sum_{r=1}^{R} D_r(X_{g,i,:})$",
    "total": r"$\mathcal{L} = \sum_{X \in \{Q,K,V\}} (1 - \alpha - \beta)\,"
    r"\mathcal{L}_{\mathrm{token}}(X) + \alpha\, \mathcal{L}_{\mathrm{head}}(X)"
    r" + \beta\, \mathcal{L}_{\mathrm{sample}}(X)$",
}
STYLE = {
    "svg.fonttype": "path",  # no font is needed where it is shown
    "svg.hashsalt": "ppminilm",  # the same names of glyphs every time
    "mathtext.fontset": "cm",
}
SIZE = 15  # points


def picture(formula: str) -> str:
    """A formula as SVG, black on white; the same text every time."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.1, 0.1))
        figure.text(0, 0, formula, fontsize=SIZE)
        file = io.StringIO()
        figure.savefig(
            file, format="svg", bbox_inches="tight", pad_inches=0.08, metadata={"Date": None}
        )
    return file.getvalue()


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, formula in FORMULAS.items():
        (FOLDER / f"{name}.svg").write_text(picture(formula), encoding="utf-8")


if __name__ == "__main__":
    main()
