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

PAGES = (
    ("Grid", "Grid", GridPage),
    ("Audit", "Audit", AuditPage),
    ("Recommend", "Recommend", RecommendPage),
    ("Verify", "Verify", VerifyPage),
    ("History", "History", HistoryPage),
    ("Compare", "History", ComparePage),
    ("Machine", "Machine", MachinePage),
)
"""Beside the first one: its name, whose small letters are its address; the door in the bar that
leads to it; what stands there."""
WITH_ACCOUNTS = (("Queue", "Queue", QueuePage),)


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
    for name, door, content in (*PAGES, *(WITH_ACCOUNTS if accounts else ())):
        with app.route(name, name.lower()) as page:
            header(door, notice, accounts=accounts)
            content(services).connect(page)
            footer(services.platform, services.model.name)
    built: gr.Blocks = app
    return built
