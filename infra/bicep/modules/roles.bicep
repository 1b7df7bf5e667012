// Who may do what with the data. Nothing is granted on the resource group or the subscription.

param storageName string
param cosmosName string
param cosmosDatabase string
param insightsName string

param appPrincipalId string
param topicPrincipalId string

@description('Gateways with an Entra identity of their own: they may write candidates.')
param gatewayPrincipalIds array

@description('People or groups that run the facerelay command line against this environment.')
param operatorPrincipalIds array

var roleIds = {
  blobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  blobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  queueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  tableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: storage
  name: 'default'
}

resource candidates 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobs
  name: 'candidates'
}

resource deadletters 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobs
  name: 'eventgrid-deadletters'
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource cosmos 'Microsoft.DocumentDB/databaseAccounts@2025-04-15' existing = {
  name: cosmosName
}

// The Functions host asks for Owner, not Contributor: it keeps its leases and secrets in containers of its own.
// Owner also covers index tags and the user delegation key of short-lived upload URLs.
resource appBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, appPrincipalId, roleIds.blobDataOwner)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.blobDataOwner)
  }
}

resource appQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, appPrincipalId, roleIds.queueDataContributor)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.queueDataContributor)
  }
}

// The host writes its diagnostic events to a table.
resource appTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, appPrincipalId, roleIds.tableDataContributor)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.tableDataContributor)
  }
}

resource appTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, appPrincipalId, roleIds.metricsPublisher)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.metricsPublisher)
  }
}

// Events that could not be delivered, and nothing else.
resource topicDeadletters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: deadletters
  name: guid(deadletters.id, topicPrincipalId, roleIds.blobDataContributor)
  properties: {
    principalId: topicPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.blobDataContributor)
  }
}

// A gateway adds crops. It reads, too, since after an upload whose answer was lost it looks for its own crop; but it may
// not list, and names that it did not make itself cannot be guessed. It deletes nothing.
resource gatewayRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (!empty(gatewayPrincipalIds)) {
  name: guid(resourceGroup().id, 'facerelay-gateway')
  properties: {
    roleName: 'facerelay gateway (${storageName})'
    description: 'Writes blobs and their index tags, and reads those whose name it knows.'
    type: 'CustomRole'
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write'
          'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/tags/write'
        ]
        notDataActions: []
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource gateways 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for principalId in gatewayPrincipalIds: {
  scope: candidates
  name: guid(candidates.id, principalId, 'facerelay-gateway')
  properties: {
    principalId: principalId
    roleDefinitionId: gatewayRole.id
    conditionVersion: '2.0'
    condition: '!(ActionMatches{\'Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read\'} AND SubOperationMatches{\'Blob.List\'})'
  }
}]

resource operatorBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for principalId in operatorPrincipalIds: {
  scope: storage
  name: guid(storage.id, principalId, roleIds.blobDataContributor)
  properties: {
    principalId: principalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.blobDataContributor)
  }
}]

resource operatorQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for principalId in operatorPrincipalIds: {
  scope: storage
  name: guid(storage.id, principalId, roleIds.queueDataContributor)
  properties: {
    principalId: principalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.queueDataContributor)
  }
}]

// Cosmos DB keeps its own roles for data: ...0002 is the built-in Data Contributor, here on our database alone.
var cosmosDataContributor = '${cosmos.id}/sqlRoleDefinitions/00000000-0000-0000-0000-000000000002'
var cosmosScope = '${cosmos.id}/dbs/${cosmosDatabase}'

resource appDocuments 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = {
  parent: cosmos
  name: guid(cosmos.id, appPrincipalId, cosmosDataContributor)
  properties: {
    principalId: appPrincipalId
    roleDefinitionId: cosmosDataContributor
    scope: cosmosScope
  }
}

@batchSize(1)
resource operatorDocuments 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2025-04-15' = [for principalId in operatorPrincipalIds: {
  parent: cosmos
  name: guid(cosmos.id, principalId, cosmosDataContributor)
  properties: {
    principalId: principalId
    roleDefinitionId: cosmosDataContributor
    scope: cosmosScope
  }
}]
