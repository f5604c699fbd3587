"""The app in the browser: its pages around the same services."""

import gradio as gr

from webapp.audit_page import AuditPage
from webapp.client_endpoint import client_endpoint
from webapp.compare_page import ComparePage
from webapp.generate_page import GeneratePage
from webapp.grid_page import GridPage
from webapp.history_page import HistoryPage
from webapp.machine_page import MachinePage
from webapp.queue_page import QueuePage
from webapp.recommend_page import RecommendPage
from webapp.services import Services
from webapp.shell import footer, header
from webapp.verify_page import VerifyPage


def build(services: Services) -> gr.Blocks:
    """All pages, each at its own address. Theme and styles are given at launch, as Gradio 6 asks.

    Pages are routes and not tabs: an address can then name an audit or a picture, and the
    browser's back button and bookmarks work.
    """
    notice, accounts = services.policy.notice, services.rules is not None
    with gr.Blocks(title="Seedproof", analytics_enabled=False, fill_width=True) as app:
        header("Generate", notice, accounts=accounts)
        GeneratePage(services).connect(app)
        client_endpoint(services)
        footer(services.platform, services.model.name)
    with app.route("Grid", "grid") as page:
        header("Grid", notice, accounts=accounts)
        GridPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Audit", "audit") as page:
        header("Audit", notice, accounts=accounts)
        AuditPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Recommend", "recommend") as page:
        header("Recommend", notice, accounts=accounts)
        RecommendPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Verify", "verify") as page:
        header("Verify", accounts=accounts)
        VerifyPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("History", "history") as page:
        header("History", notice, accounts=accounts)
        HistoryPage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Compare", "compare") as page:
        header("History", notice, accounts=accounts)
        ComparePage(services).connect(page)
        footer(services.platform, services.model.name)
    with app.route("Machine", "machine") as page:
        header("Machine", notice, accounts=accounts)
        MachinePage(services).connect(page)
        footer(services.platform, services.model.name)
    if accounts:
        with app.route("Queue", "queue") as page:
            header("Queue", notice, accounts=accounts)
            QueuePage(services).connect(page)
            footer(services.platform, services.model.name)
    built: gr.Blocks = app
    return built
