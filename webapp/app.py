"""The app in the browser: its pages around the same services."""

import gradio as gr

from webapp.audit_page import AuditPage
from webapp.compare_page import ComparePage
from webapp.generate_page import GeneratePage
from webapp.grid_page import GridPage
from webapp.history_page import HistoryPage
from webapp.recommend_page import RecommendPage
from webapp.services import Services
from webapp.shell import footer, header
from webapp.verify_page import VerifyPage


def build(services: Services) -> gr.Blocks:
    """All pages, each at its own address. Theme and styles are given at launch, as Gradio 6 asks.

    Pages are routes and not tabs: an address can then name an audit or a picture, and the
    browser's back button and bookmarks work.
    """
    notice = services.policy.notice
    with gr.Blocks(title="Seedproof", analytics_enabled=False, fill_width=True) as app:
        header("Generate", notice)
        GeneratePage(services).connect(app)
        footer(services.platform, services.model.name)
    with app.route("Grid", "grid") as page:
        header("Grid", notice)
        GridPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Audit", "audit") as page:
        header("Audit", notice)
        AuditPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Recommend", "recommend") as page:
        header("Recommend", notice)
        RecommendPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Verify", "verify") as page:
        header("Verify")
        VerifyPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("History", "history") as page:
        header("History", notice)
        HistoryPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Compare", "compare") as page:
        header("History", notice)
        ComparePage(services).connect(page)
        footer(services.platform, services.model.name)
    built: gr.Blocks = app
    return built
