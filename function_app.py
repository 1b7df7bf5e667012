"""The function app: joins the five areas, nothing else."""

import azure.functions as func

from functions import enroll, group, query, recognize, train

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
for area in (recognize, enroll, train, group, query):
    app.register_functions(area.bp)
