"""The function app: joins the four areas, nothing else."""

import azure.functions as func

from functions import enroll, query, recognize, train

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
for area in (recognize, enroll, train, query):
    app.register_functions(area.bp)
