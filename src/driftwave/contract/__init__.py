"""What every plug-in keeps, as checks that a package of plug-ins runs in its own tests.

    from driftwave.contract import check_model
    from mylab import slds

    def test_contract():
        check_model(slds)

Each check fits or analyses a small recording made in memory and raises an AssertionError that says
which part of the contract is broken.
"""

from driftwave.contract.analyses import AnalysisContract, check_analysis
from driftwave.contract.common import quick_params
from driftwave.contract.figures import check_figure
from driftwave.contract.layouts import check_layout
from driftwave.contract.models import ModelContract, check_model

__all__ = [
    "AnalysisContract",
    "ModelContract",
    "check_analysis",
    "check_figure",
    "check_layout",
    "check_model",
    "quick_params",
]
