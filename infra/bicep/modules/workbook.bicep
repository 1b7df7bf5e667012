// The operator's pictures. The workbook itself is workbook.json, as the portal's editor exports it.

param displayName string
param location string
param tags object
param workspaceId string
param cosmosId string

var content = replace(replace(loadTextContent('../workbook.json'), '__WORKSPACE__', workspaceId), '__COSMOS__', cosmosId)

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'facerelay-workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: displayName
    category: 'workbook'
    sourceId: workspaceId
    serializedData: content
  }
}

output id string = workbook.id
